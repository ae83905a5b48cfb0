-- KEYS: s d.
-- ARGV: end of the channel's name; when a message was sent and to how many subscribers, or 0 and 0.
-- Returns: when it sent a message and to how many, for the caller to come back and measure, or 0 and 0.
-- Measures that message, and delivers what waits, if that is due. The publisher of the message, or of the first that
-- waits, calls this; nothing depends on that.
local s, sent, receivers = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local d, waits, members = unpack(redis.call('HMGET', s, 'd', 'n', 'm'))
if d and receivers > 0 then
  -- The server reads this call after it has written to the subscribers, so they took that long at most: the least that
  -- is measured counts. It may grow slowly, for a machine that has become slower.
  local due, pause, cost = pace_of(d)
  cost = math.min((microseconds() - sent) / receivers, cost * 1.25, COSTLIEST)
  set_pace(s, due, pause, math.max(cost, CHEAPEST))
  d = redis.call('HGET', s, 'd')
end
local _
sent, receivers = 0, 0
if waits and left_until(d) == 0 then
  _, sent, receivers = flush(s, string.sub(s, 1, -2) .. ARGV[1], d, waits, members)
end
return { sent, receivers }
