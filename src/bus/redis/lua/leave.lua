-- KEYS: m w. ARGV: instance, 1 if it leaves, the highest number that it has given to a write (8 bytes,
-- big-endian), and the intents up to there that are open.
-- Clears its other intents up to there, whose announcements came after their writes had ended.
-- Returns: 1 if nothing of the instance is left open, else 0: a peer must finish that if the instance leaves.
local m, w, instance = KEYS[1], KEYS[2], ARGV[1]
local up_to = struct.unpack('>I8', ARGV[3])
local open = {}
for n = 4, #ARGV do
  open[ARGV[n]] = true
end
local left = 0
for _, intent in ipairs(redis.call('HKEYS', w)) do
  if #intent == 16 and string.sub(intent, 1, 8) == instance then
    if open[intent] or struct.unpack('>I8', intent, 9) > up_to then
      left = left + 1
    else
      redis.call('HDEL', w, intent)
      redis.call('ZREM', m, intent)
    end
  end
end
if left > 0 then
  return 0
end
if ARGV[2] == '1' then
  redis.call('ZREM', m, instance)
  redis.call('HDEL', w, instance, 'c' .. instance)
end
return 1
