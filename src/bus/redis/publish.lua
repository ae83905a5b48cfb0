-- KEYS: s j, and m w if intents are cleared.
-- ARGV: channel, journal cap, instance, payload, intents to clear.
-- Returns: epoch, sequence.
local s, j = KEYS[1], KEYS[2]
local epoch = redis.call('HGET', s, 'e')
if not epoch then
  epoch = string.format('%.0f', fresh_epoch(ARGV[3] .. ARGV[4]))
  -- The run id stays unset (INFO is too slow here), so the next verification begins a new epoch.
  redis.call('HSET', s, 'q', string.format('%.0f', first_sequence()), 'e', epoch)
  redis.call('DEL', j)
end
local sequence = announce(s, j, ARGV[2], ARGV[1], epoch, ARGV[4])
for i = 5, #ARGV do
  redis.call('HDEL', KEYS[4], ARGV[i])
  redis.call('ZREM', KEYS[3], ARGV[i])
end
return { tonumber(epoch), sequence }
