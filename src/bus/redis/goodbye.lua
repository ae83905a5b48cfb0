-- KEYS: m w. ARGV: instance.
-- Returns: 1 if the instance left; 0 if it has open intents, which a peer must then recover.
for _, intent in ipairs(redis.call('HKEYS', KEYS[2])) do
  if #intent == 16 and string.sub(intent, 1, 8) == ARGV[1] then
    return 0
  end
end
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
