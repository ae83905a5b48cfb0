-- KEYS: s j d, and m w if intents are cleared.
-- ARGV: end of the channel's name, journal cap, payload, intents to clear.
-- Returns: epoch, sequence; in how many microseconds to call deliver.lua, or 0; and when a message to many subscribers was
-- sent and how many they are, for deliver.lua to measure at once, or 0 and 0.
-- Every byte of an argument travels with every event, so what is in s already is not said again.
local s, j = KEYS[1], KEYS[2]
local epoch = redis.call('HGET', s, 'e')
if not epoch then
  epoch = string.format('%.0f', fresh_epoch(ARGV[3]))
  -- Provisional: what it is drawn from is no secret. The run id stays unset (INFO is too slow here), so the
  -- next verification begins another epoch.
  redis.call('HSET', s, 'q', string.format('%.0f', microseconds()), 'e', epoch)
  redis.call('DEL', j)
end
local channel = string.sub(s, 1, -2) .. ARGV[1]
local sequence, wait, sent, receivers
sequence, epoch, wait, sent, receivers = announce(s, j, ARGV[2], channel, epoch, ARGV[3])
for i = 4, #ARGV do
  redis.call('HDEL', KEYS[5], ARGV[i])
  redis.call('ZREM', KEYS[4], ARGV[i])
end
return { tonumber(epoch), sequence, wait, sent, receivers }
