-- KEYS: m w. ARGV: instance, its member timeout (ms), then for each intent: id, deadline (ms from now), payload.
-- Returns: whether the fleet knew the instance (1 or 0).
local m, w = KEYS[1], KEYS[2]
local now = now_ms()
local known = beat(m, w, ARGV[1], ARGV[2], now)
for i = 3, #ARGV, 3 do
  -- Rounded up: the clock was rounded down, and a deadline must not come early.
  local deadline = now + tonumber(ARGV[i + 1]) + 1
  redis.call('HSET', w, ARGV[i], struct.pack('>I8', deadline) .. ARGV[i + 2])
  -- Recovered by a peer while its writer lives: the writer answers for it again, with this deadline.
  redis.call('ZREM', m, ARGV[i])
end
return known
