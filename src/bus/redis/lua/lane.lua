-- Shared by publish.lua, deliver.lua and verify.lua: what an event is, what an epoch is, and how events are delivered.

-- 52 bits that no earlier call returned. math.random starts equally in every script of Redis, so the
-- clock and a seed of the caller's are hashed instead. 0 means "no epoch" to readers.
local function fresh_epoch(seed)
  local time = redis.call('TIME')
  local hash = redis.sha1hex(time[1] .. ':' .. time[2] .. ':' .. seed)
  return math.max(1, tonumber(string.sub(hash, 1, 13), 16))
end

-- The server's clock, in microseconds. As a first sequence it is ahead of every counter that was ever started from it.
local function microseconds()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Delivering. A message goes to each subscriber by itself, so with many of them it would take all of a server to deliver
-- every event at once. So after a message to FEW subscribers or more, the next one waits until delivering has had a part
-- in SHARE of the time and no more; what is published meanwhile goes out with it. In s: 'n' the sequence that an event
-- must have to follow what waits, and how long that is; 'd' when the next message is due, the length of the pause before
-- it, and what it takes to deliver to one subscriber, all in microseconds; 'm' the members, where they are FEW or more.
-- d: the message that waits.

-- The longest pause, and the bytes that follow the head of a message at most: an event as long as any, and its length.
local FEW, SHARE, LONGEST, BODY = 100, 4, 250000, 65540
-- What it takes to deliver to one subscriber, in microseconds: before it is measured, at least, and at most.
local COST, CHEAPEST, COSTLIEST = 5, 1, 50

local function waiting(s)
  return string.sub(s, 1, -2) .. 'd'
end

local function discard(s)
  redis.call('DEL', waiting(s))
  redis.call('HDEL', s, 'n')
end

-- What is damaged counts as nothing, and no number is beyond its bound: no publication fails for it.
local function pace_of(d)
  local due, pause, cost = string.match(d or '', '^(%d+):(%d+):([%d.]+)$')
  return tonumber(due) or 0, math.min(tonumber(pause) or 0, LONGEST), math.min(tonumber(cost) or COST, COSTLIEST)
end

local function set_pace(s, due, pause, cost)
  redis.call('HSET', s, 'd', string.format('%.0f:%.0f:%.2f', due, pause, cost))
end

-- How long what waits has to wait yet. A time far ahead is that of a clock which was set back.
local function left_until(d)
  local left = pace_of(d) - microseconds()
  return left > LONGEST and 0 or math.max(0, left)
end

-- Delivers a message. Returns 0, and when it was sent and to how many, where they are FEW or more: the socket of each is
-- written to after the script, so the publisher comes back at once, and deliver.lua sees how long that took.
local function send(s, channel, message, d, members)
  -- The name of a channel ends with its database's number. A cluster has no databases, and its
  -- channels are sharded: only the subscribers at this node hear them.
  local publish = string.find(channel, '%d$') and 'PUBLISH' or 'SPUBLISH'
  local receivers = redis.call(publish, channel, message)
  -- Those that subscribe at replicas are not among them.
  local all = math.max(receivers, tonumber(members) or 0)
  if all >= FEW then
    local now, _, _, cost = microseconds(), pace_of(d)
    local pause = math.min(all * cost * SHARE, LONGEST)
    set_pace(s, now + pause, pause, cost)
    return 0, now, receivers >= FEW and receivers or 0
  elseif d then
    redis.call('HDEL', s, 'd')
  end
  return 0, 0, 0
end

-- What waits, which waits no longer: nothing where it is not whole (a key that was evicted), or where this sequence
-- does not follow it (a number that no event has got). The journal has what is lost so.
local function take(s, waits, sequence)
  if not waits then
    return nil
  end
  local follows, length = string.match(waits, '^(%d+):(%d+)$')
  local message = redis.pcall('GET', waiting(s))
  discard(s)
  if type(message) == 'string' and #message == tonumber(length) and (not sequence or tonumber(follows) == sequence) then
    return message
  end
end

-- Delivers what waits; returns what send does.
local function flush(s, channel, d, waits, members)
  local message = take(s, waits)
  if message then
    return send(s, channel, message, d, members)
  end
  return 0, 0, 0
end

-- Delivers an event, or has it wait. Returns what send does; or where the event is the first to wait, in how many
-- microseconds its publisher is to come back and deliver what waits then. Where that one dies, the next publication or
-- verification does it.
local function deliver(s, channel, epoch, sequence, payload, d, waits, members)
  local entry = struct.pack('>I4', #payload) .. payload
  local alone = struct.pack('>I8I8', epoch, sequence) .. entry
  if not d then
    return send(s, channel, alone, d, members)
  end
  local left = left_until(d)
  if left == 0 then
    local message = take(s, waits, sequence)
    if message and #message + #entry <= 16 + BODY then
      return send(s, channel, message .. entry, d, members)
    elseif message then
      send(s, channel, message, d, members)
    end
    return send(s, channel, alone, d, members)
  end
  local follows, length = string.match(waits or '', '^(%d+):(%d+)$')
  if tonumber(follows) == sequence and redis.pcall('STRLEN', waiting(s)) == tonumber(length) then
    if length + #entry <= 16 + BODY then
      length = redis.call('SETRANGE', waiting(s), length, entry)
      redis.call('HSET', s, 'n', string.format('%.0f:%d', sequence + 1, length))
      return 0, 0, 0
    end
    -- It is as long as a message may be, and does not wait.
    send(s, channel, take(s, waits, sequence), d, members)
    left = math.max(1, left_until(redis.call('HGET', s, 'd')))
  end
  redis.call('SET', waiting(s), alone)
  redis.call('HSET', s, 'n', string.format('%.0f:%d', sequence + 1, #alone))
  return left, 0, 0
end

-- The shared tier's history, where the fleet has one (s has the field 't', see verify.lua): which invalidations the lane
-- has had. r: a sorted set of names by their latest sequence ('k' cache format key, 't' cache format tag,
-- 'c' cache), and '-', the floor, below which nothing counts. f: a hash of the epoch 'e', the last
-- sequence 'q' that is covered, and for each cache the format of its latest event, where that was, and
-- where the latest of any other format was. If anything is missing, or not of this epoch, or 'q' is not
-- the lane's sequence, nothing counts until a verification begins the history again.

-- Defined where it is needed: a script begins again at each call, and most fleets have no shared tier.
local function history()
  -- Names in r at most, and caches in f at most. As HISTORY and HISTORY_CACHES in bus/tier.rs.
  local HISTORY, HISTORY_CACHES = 65536, 4096

  -- An array's length, or an integer, of MessagePack at a place; the place after it. cmsgpack knows no bin.
  local function array_at(text, at)
    local byte = string.byte(text, at)
    if byte >= 0x90 and byte <= 0x9f then
      return byte - 0x90, at + 1
    elseif byte == 0xdc then
      return struct.unpack('>I2', text, at + 1)
    end
    assert(byte == 0xdd)
    return struct.unpack('>I4', text, at + 1)
  end

  local WIDTHS = {
    [0xcc] = '>I1', [0xcd] = '>I2', [0xce] = '>I4', [0xcf] = '>I8',
    [0xd0] = '>i1', [0xd1] = '>i2', [0xd2] = '>i4', [0xd3] = '>i8',
  }
  -- An integer from 0 to the most that the reader takes.
  local function integer_at(text, at, most)
    local byte, value = string.byte(text, at), nil
    if byte < 0x80 then
      value, at = byte, at + 1
    else
      value, at = struct.unpack(assert(WIDTHS[byte]), text, at + 1)
    end
    assert(value >= 0 and value <= most)
    return value, at
  end

  local BINS = { [0xc4] = '>I1', [0xc5] = '>I2', [0xc6] = '>I4' }
  local function bin_at(text, at)
    local length, from = struct.unpack(assert(BINS[string.byte(text, at)]), text, at + 1)
    assert(from + length - 1 <= #text)
    return string.sub(text, from, from + length - 1), from + length
  end

  -- What an element that a later version appends may be: bytes that follow its first, or the width of a length.
  local FIXED = {
    [0xc0] = 0, [0xc2] = 0, [0xc3] = 0, [0xca] = 4, [0xcb] = 8, [0xcc] = 1, [0xcd] = 2, [0xce] = 4, [0xcf] = 8,
    [0xd0] = 1, [0xd1] = 2, [0xd2] = 4, [0xd3] = 8,
  }
  local SIZED = { [0xc4] = '>I1', [0xc5] = '>I2', [0xc6] = '>I4', [0xd9] = '>I1', [0xda] = '>I2', [0xdb] = '>I4' }
  local NESTED = { [0xdc] = '>I2', [0xdd] = '>I4', [0xde] = '>I2', [0xdf] = '>I4' }

  -- The place after an element of any shape, fewer levels deep than the reader follows.
  local function after(text, at, depth)
    local byte, count = string.byte(text, at), nil
    if byte <= 0x7f or byte >= 0xe0 then
      return at + 1
    elseif byte <= 0x8f then
      count, at = 2 * (byte - 0x80), at + 1
    elseif byte <= 0x9f then
      count, at = byte - 0x90, at + 1
    elseif NESTED[byte] then
      count, at = struct.unpack(NESTED[byte], text, at + 1)
      count = byte >= 0xde and 2 * count or count
    else
      local length = byte <= 0xbf and byte - 0xa0 or FIXED[byte]
      if length then
        at = at + 1
      else
        -- Extensions have no length here: an event that has one is taken for everything.
        length, at = struct.unpack(assert(SIZED[byte]), text, at + 1)
      end
      assert(at + length - 1 <= #text)
      return at + length
    end
    assert(depth > 0)
    for _ = 1, count do
      at = after(text, at, depth - 1)
    end
    return at
  end

  -- As MAX_PAYLOAD in bus.rs; what integers the reader takes; levels of what is appended.
  local PAYLOAD, U64, U32, DEPTH = 65536, 18446744073709551616, 4294967295, 8

  -- The event's operations, as { cache, format, kind, hashes }. What the reader refuses is an error here too.
  -- Where events are signed, a MAC follows.
  local function ops_of(payload, mac)
    assert(string.byte(payload, 1) == 1 and #payload <= PAYLOAD)
    local elements, at = array_at(payload, 2)
    assert(elements >= 3)
    local _, count
    _, at = integer_at(payload, at, U64)
    _, at = integer_at(payload, at, U64)
    count, at = array_at(payload, at)
    local ops = {}
    for n = 1, count do
      local fields, cache, format, kind, hashes
      fields, at = array_at(payload, at)
      assert(fields >= 4)
      cache, at = integer_at(payload, at, U32)
      format, at = integer_at(payload, at, U32)
      kind, at = integer_at(payload, at, 3)
      hashes, at = bin_at(payload, at)
      assert(#hashes % 8 == 0 and (kind < 2 or hashes == ''))
      for _ = 5, fields do
        at = after(payload, at, DEPTH)
      end
      ops[n] = { struct.pack('>I4', cache), struct.pack('>I4', format), kind, hashes }
    end
    for _ = 4, elements do
      at = after(payload, at, DEPTH)
    end
    assert(at + mac == #payload + 1)
    return ops
  end

  -- Adds what the event names to the history. The last step says that it is complete: where any before it
  -- fails, there is a hole, and nothing counts.
  local function remember(s, epoch, sequence, payload, mac)
    local base = string.sub(s, 1, -2)
    local r, f = base .. 'r', base .. 'f'
    local known = redis.call('HMGET', f, 'e', 'q')
    if not known[1] then
      -- The tier has not been used for long.
      redis.call('HDEL', s, 't')
      return
    elseif known[1] ~= epoch or tonumber(known[2]) ~= sequence - 1 then
      -- For good: a counter that was set back may come to the same sequence again.
      redis.call('HSET', f, 'q', '')
      return
    end
    local place = string.format('%.0f', sequence)
    local read, ops = pcall(ops_of, payload, mac)
    local everything = not read
    local batch = { r }
    local function add(name)
      batch[#batch + 1] = place
      batch[#batch + 1] = name
      if #batch > 1000 then
        redis.call('ZADD', unpack(batch))
        batch = { r }
      end
    end
    for _, op in ipairs(read and ops or {}) do
      local cache, format, kind, hashes = unpack(op)
      if kind == 3 then
        everything = true
        break
      elseif kind == 2 then
        add('c' .. cache)
      else
        local name = (kind == 0 and 'k' or 't') .. cache .. format
        for at = 1, #hashes, 8 do
          add(name .. string.sub(hashes, at, at + 7))
        end
      end
      local last, others = redis.call('HGET', f, cache), 0
      if last then
        local of, at
        of, at, others = struct.unpack('>c4I8I8', last)
        if of ~= format then
          others = math.max(others, at)
        end
      end
      redis.call('HSET', f, cache, format .. struct.pack('>I8I8', sequence, others))
    end
    if everything or redis.call('HLEN', f) > HISTORY_CACHES + 2 then
      -- Both begin again and keep their expiry. Of equal places '-' comes first, so it has the lowest rank.
      redis.call('ZREMRANGEBYRANK', r, 1, -1)
      redis.call('ZADD', r, 'XX', place, '-')
      local caches = { f }
      for _, name in ipairs(redis.call('HKEYS', f)) do
        if #name == 4 then
          caches[#caches + 1] = name
        end
        if #caches > 1000 then
          redis.call('HDEL', unpack(caches))
          caches = { f }
        end
      end
      if #caches > 1 then
        redis.call('HDEL', unpack(caches))
      end
    else
      if #batch > 1 then
        redis.call('ZADD', unpack(batch))
      end
      local over = redis.call('ZCARD', r) - 1 - HISTORY
      if over > 0 then
        -- Not '-', which has the lowest rank.
        local last = redis.call('ZRANGE', r, over, over, 'WITHSCORES')
        redis.call('ZREMRANGEBYRANK', r, 1, over)
        redis.call('ZADD', r, 'XX', last[2], '-')
      end
    end
    redis.call('HSET', f, 'q', place)
  end
  return remember
end

-- Gives the event the next sequence, journals it, delivers it or has it wait. Returns the sequence and its epoch, which is
-- another one where the counter is found to have gone back, and what deliver returned.
local function announce(s, j, journal, channel, epoch, payload)
  local sequence = redis.call('HINCRBY', s, 'q', 1)
  if journal ~= '0' then
    -- Plain concatenation would write 1.79e15 as 1.7952589288306e+15.
    local id = string.format('%.0f-0', sequence)
    local added = redis.pcall('XADD', j, 'MAXLEN', '~', journal, id, 'e', payload)
    if type(added) == 'table' and added.err then
      if not string.find(added.err, 'equal or smaller', 1, true) and not string.find(added.err, 'WRONGTYPE', 1, true) then
        -- No right, say: nothing is delivered, and the number is a gap.
        error(added)
      end
      -- The id is taken: the counter has gone back within its epoch (an older state of it was put back), and
      -- 1: this sequence was given to an event that instances have applied; 2: it is given to this one, which
      -- in the same epoch they would take for that one and ignore.
      -- Scripts do not roll back; with the old journal every publish would fail until the counter caught up.
      -- The epoch is provisional, as one that publish.lua begins.
      epoch = string.format('%.0f', fresh_epoch(epoch .. payload))
      redis.call('HSET', s, 'e', epoch, 'r', '')
      discard(s)
      redis.call('DEL', j)
      redis.call('XADD', j, id, 'e', payload)
    end
  end
  local tier, d, waits, members = unpack(redis.call('HMGET', s, 't', 'd', 'n', 'm'))
  if tier then
    -- An event is worth more than the history of it: what fails in there leaves a hole.
    pcall(history(), s, epoch, sequence, payload, tier == '2' and 16 or 0)
  end
  return sequence, epoch, deliver(s, channel, epoch, sequence, payload, d, waits, members)
end
