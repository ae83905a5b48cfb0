-- Shared by publish.lua and verify.lua: what an event is, and what an epoch is.

-- 52 bits that no earlier call returned. math.random starts equally in every script of Redis, so the
-- clock and a seed of the caller's are hashed instead. 0 means "no epoch" to readers.
local function fresh_epoch(seed)
  local time = redis.call('TIME')
  local hash = redis.sha1hex(time[1] .. ':' .. time[2] .. ':' .. seed)
  return math.max(1, tonumber(string.sub(hash, 1, 13), 16))
end

-- The server's clock: ahead of every counter that was ever started from it.
local function first_sequence()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Gives the event the next sequence, journals it, delivers it. Returns the sequence.
local function announce(s, j, journal, channel, epoch, payload)
  local sequence = redis.call('HINCRBY', s, 'q', 1)
  if journal ~= '0' then
    -- Plain concatenation would write 1.79e15 as 1.7952589288306e+15.
    local id = string.format('%.0f-0', sequence)
    local added = redis.pcall('XADD', j, 'MAXLEN', '~', journal, id, 'e', payload)
    if type(added) == 'table' and added.err then
      -- The journal outlived its counter, or a clock stepped back: its ids are ahead of ours.
      -- Scripts do not roll back; without this every publish would fail until the counter caught up.
      redis.call('DEL', j)
      redis.call('XADD', j, id, 'e', payload)
    end
  end
  -- The name of a channel ends with its database's number. A cluster has no databases, and its
  -- channels are sharded: only the subscribers at this node hear them.
  local publish = string.find(channel, '%d$') and 'PUBLISH' or 'SPUBLISH'
  redis.call(publish, channel, struct.pack('>I8I8', epoch, sequence) .. payload)
  return sequence
end
