-- Shared by verify.lua, record.lua and goodbye.lua: who is alive.
-- m: 8-byte instance -> last beat (ms); 16-byte recovered intent -> its deadline less the member
-- timeout, so that one range scan finds both; '-' -> +inf, which keeps the key in existence.
-- w: 16-byte intent (instance, number) -> 8-byte deadline (ms, big-endian) and payload; '-' -> ''.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Where m was lost, every origin of an open intent enters it as silent since ever. A live one will
-- learn that it is unknown and register again; a dead one is found by the next scan.
local function restore_members(m, w)
  if redis.call('ZSCORE', m, '-') then
    return
  end
  for _, intent in ipairs(redis.call('HKEYS', w)) do
    if #intent == 16 then
      redis.call('ZADD', m, 'NX', 0, string.sub(intent, 1, 8))
    end
  end
  redis.call('ZADD', m, '+inf', '-')
end

-- Registers the instance as alive; 1 if the fleet knew it, else 0.
local function beat(m, w, instance, now)
  if not redis.call('HGET', w, '-') then
    -- The intents were lost. Who becomes unknown records again what is open.
    redis.call('DEL', m)
  end
  local known = redis.call('ZSCORE', m, instance) and 1 or 0
  restore_members(m, w)
  redis.call('ZADD', m, string.format('%.0f', now), instance)
  redis.call('HSET', w, '-', '')
  return known
end
