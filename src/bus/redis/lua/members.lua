-- Shared by verify.lua and announce.lua: who is alive. Both begin with a beat.
-- m: 8-byte instance -> last beat (ms); 16-byte intent that was recovered -> when it is settled for good (ms)
-- less RECOVERED, so that one range scan finds those that are due; '-' -> +inf, which keeps the key in existence.
-- w: 16-byte intent (instance, number) -> 8-byte deadline (ms, big-endian) and payload; 8-byte instance -> its
-- member timeout (ms); 'c' and the instance -> its caches, for who looks from outside (4-byte id and 4-byte
-- format each); '-' -> ''.

-- 2^50: more milliseconds than any clock shows. Scores are exact up to 2^53.
local RECOVERED = 1125899906842624

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function score(number)
  return string.format('%.0f', number)
end

-- Where m was lost, every origin of an open intent enters it as silent since ever. A live one will
-- learn that it is unknown and register again; a dead one is found by the next scan.
local function restore_members(m, w)
  for _, intent in ipairs(redis.call('HKEYS', w)) do
    if #intent == 16 then
      redis.call('ZADD', m, 'NX', 0, string.sub(intent, 1, 8))
    end
  end
  redis.call('ZADD', m, '+inf', '-')
end

-- By how much the latest beat lies ahead of the clock, which then has stepped back; 0 if none does.
local function ahead(m, now)
  local beats = redis.call('ZRANGEBYSCORE', m, '(' .. score(now), '(+inf', 'WITHSCORES')
  for n = #beats - 1, 1, -2 do
    if #beats[n] == 8 then
      return tonumber(beats[n + 1]) - now
    end
  end
  return 0
end

-- The clock was set back, or this is another server whose clock is behind: what was noted comes earlier.
-- 1: the latest beat is noted, at B by the clock of then; 2: the clock steps back by S; 3: after a time E since 1
-- this beat comes, at now = B + E - S. So the latest beat lies ahead by X = B - now = S - E.
-- By the clock of now, all that was noted before 2 belongs S earlier. It is moved by X, which is not more than
-- S: no beat looks older and no deadline comes earlier than it truly is, and all come E late at most, the time
-- in which no member beat. Nothing was noted between 2 and 3: every script that notes a time begins with this.
-- It costs one step for each member and open write, once for each step of the clock.
local function follow_clock(m, w, now)
  local back = ahead(m, now)
  if back <= 0 then
    return
  end
  local noted = redis.call('ZRANGEBYSCORE', m, '-inf', '(+inf', 'WITHSCORES')
  for n = 1, #noted, 2 do
    local at = tonumber(noted[n + 1])
    -- A beat stays on its side of zero.
    redis.call('ZADD', m, score(at < 0 and at - back or math.max(0, at - back)), noted[n])
  end
  for _, intent in ipairs(redis.call('HKEYS', w)) do
    if #intent == 16 then
      local value = redis.call('HGET', w, intent)
      local deadline = math.max(0, struct.unpack('>I8', value) - back)
      redis.call('HSET', w, intent, struct.pack('>I8', deadline) .. string.sub(value, 9))
    end
  end
end

-- Registers the instance as alive; 1 if the fleet knew it, else 0.
local function beat(m, w, instance, timeout, now)
  local kept = redis.call('HGET', w, '-')
  if not kept then
    -- The intents were lost. Who becomes unknown announces again what is open.
    redis.call('DEL', m)
  end
  local scores = redis.call('ZMSCORE', m, instance, '-')
  local known = scores[1] and 1 or 0
  if not scores[2] then
    restore_members(m, w)
  end
  follow_clock(m, w, now)
  redis.call('ZADD', m, score(now), instance)
  if not kept then
    redis.call('HSET', w, '-', '')
  end
  if known == 0 then
    redis.call('HSET', w, instance, timeout)
  end
  return known
end
