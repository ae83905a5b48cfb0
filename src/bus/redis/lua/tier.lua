-- Shared by fetch.lua and put.lua: whether a value still counts. See lane.lua for r and f, bus/tier.rs
-- for a value's head: layout, epoch, sequence, born, expires, digest, MAC, number of tags, tags.
-- A subject is cache, format and key, 4 + 4 + 8 bytes.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The lane's epoch and sequence as text, if its history covers it up to there.
local function covered(s, f)
  local head = redis.call('HMGET', s, 'e', 'q')
  local known = redis.call('HMGET', f, 'e', 'q')
  if head[1] and head[2] and known[1] == head[1] and known[2] == head[2] then
    return head[1], head[2]
  end
end

-- Whether what has seen everything up to this sequence has seen all that concerns the subject and these
-- tags (8 bytes each). Of another epoch nothing is known.
local function counts(r, f, lane_epoch, subject, tags, epoch, sequence)
  if string.format('%.0f', epoch) ~= lane_epoch then
    return false
  end
  local cache, format = string.sub(subject, 1, 4), string.sub(subject, 5, 8)
  local names = { '-', 'c' .. cache, 'k' .. subject }
  for at = 1, #tags, 8 do
    names[#names + 1] = 't' .. cache .. format .. string.sub(tags, at, at + 7)
  end
  local places = redis.call('ZMSCORE', r, unpack(names))
  if not places[1] then
    return false
  end
  for n = 1, #names do
    if places[n] and tonumber(places[n]) > sequence then
      return false
    end
  end
  local last = redis.call('HGET', f, cache)
  if last then
    local of, at, others = struct.unpack('>c4I8I8', last)
    if (of == format and others or at) > sequence then
      return false
    end
  end
  return true
end

local LAYOUT, HEAD = 2, 66

-- Epoch, sequence, born, expires, digest and tags of the value's head; nothing if it has none.
local function head_of(text)
  if #text < HEAD or string.byte(text, 1) ~= LAYOUT then
    return
  end
  local epoch, sequence, born, expires, digest, _, tags = struct.unpack('>I8I8I8I8c16c16I1', text, 2)
  if #text < HEAD + 8 * tags then
    return
  end
  return epoch, sequence, born, expires, digest, string.sub(text, HEAD + 1, HEAD + 8 * tags)
end
