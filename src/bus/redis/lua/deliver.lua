-- KEYS: s d.
-- ARGV: end of the channel's name.
-- Delivers what waits, if that is due. The publisher of the first of it calls this; nothing depends on that.
local s = KEYS[1]
local due, waits = unpack(redis.call('HMGET', s, 'd', 'n'))
if waits and left_until(due) == 0 then
  flush(s, string.sub(s, 1, -2) .. ARGV[1], due, waits)
end
return 0
