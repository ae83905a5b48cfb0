-- KEYS: s j d m w, and r f for who uses the shared tier.
-- ARGV: instance, member timeout (ms), lanes, journal cap, channel, 16 random bytes, and how it uses the shared
-- tier: 0 not at all, 1, or 2 where events are signed; the epoch that the caller knows, and the lowest sequence
-- that it may have reached; in lane 0, where that has changed, what the instance says of itself (see note.rs), else '';
-- and the sources that its caches name.
-- Returns: epoch, sequence, known, intents recovered, 1 if dead members are left (call again), the number of members
-- of other keys, in how many microseconds events up to this sequence have been delivered, the pause between messages in
-- microseconds, and for who was not known the number of other members, else 0. Where sources are named: the number of
-- this verification, and for each source the number of its mark in this epoch, or -1, and its place (see mark.lua).
local s, j, m, w = KEYS[1], KEYS[2], KEYS[4], KEYS[5]
local instance, timeout, lanes, journal, channel = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local entropy, tier = ARGV[6], ARGV[7]
local known_epoch, lowest = ARGV[8], tonumber(ARGV[9])

local stored = redis.call('HMGET', s, 'q', 'e', 'r', 'l', 'm')
if stored[4] and stored[4] ~= lanes then
  return redis.error_reply('LANES ' .. stored[4])
end
-- One life of the counter: this process, in its present term as the primary. The replication id is a new
-- one after every promotion; without it a server that was demoted and promoted again would go on with
-- its old epoch, although another has handed numbers out meanwhile.
local info = redis.call('INFO', 'server', 'replication')
-- A pattern is tried at each byte, and took half of this script's time.
local function hex_after(name)
  local _, last = string.find(info, name, 1, true)
  return last and string.match(info, '^%x+', last + 1)
end
local process, term = hex_after('run_id:'), hex_after('master_replid:')
if not process then
  return redis.error_reply('NORUNID INFO server names no run_id')
end
local run = process .. (term or '')

local epoch = stored[2]
-- The counter went back within its epoch (a key that was restored or copied, a host that was reverted): the
-- caller has applied more, or the shared tier's history has.
local function went_back()
  local sequence = tonumber(stored[1])
  if known_epoch == epoch and sequence < lowest then
    return true
  elseif tier == '0' then
    return false
  end
  local covered = redis.call('HMGET', KEYS[7], 'e', 'q')
  -- Where the history has a hole, its sequence is empty.
  return covered[1] == epoch and (tonumber(covered[2]) or 0) > sequence
end
if not stored[1] or not epoch or stored[3] ~= run or went_back() then
  -- Another life of the counter: what was numbered before may be numbered again.
  local sequence = stored[1] or string.format('%.0f', microseconds())
  epoch = string.format('%.0f', fresh_epoch(instance .. run .. (epoch or '') .. entropy))
  redis.call('HSET', s, 'q', sequence, 'e', epoch, 'r', run, 'l', lanes)
  -- What waits is of another life.
  discard(s)
  redis.call('DEL', j)
  -- Below every event's id, so never read; a key that exists survives a slot migration.
  redis.call('XADD', j, '0-1', 'e', '')
elseif not stored[4] then
  redis.call('HSET', s, 'l', lanes)
end

local now = now_ms()
local known = beat(m, w, instance, timeout, now)

-- The keys of a note, 4 bytes each; the first signs.
local function keys_of(note)
  return string.sub(note, 2, 1 + 4 * string.byte(note, 1))
end

-- Whether one of these keys signs, and so whether the events of one are believed by the other.
local function believes(keys, signs)
  for at = 1, #keys, 4 do
    if string.sub(keys, at, at + 3) == signs then
      return true
    end
  end
  return #keys == 0 and signs == ''
end

-- Of so many members at most, those that are heard of: one that disagrees with all is found among any.
local function other_keys(note)
  local ours, disagree = keys_of(note), 0
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', m, score(now - timeout), '(+inf', 'LIMIT', 0, 64)) do
    local theirs = #member == 8 and member ~= instance and redis.call('HGET', w, 'c' .. member)
    theirs = theirs and theirs ~= '' and keys_of(theirs)
    if theirs and not (believes(ours, string.sub(theirs, 1, 4)) and believes(theirs, string.sub(ours, 1, 4))) then
      disagree = disagree + 1
    end
  end
  return disagree
end

local disagree = 0
if ARGV[10] and ARGV[10] ~= '' then
  redis.call('HSET', w, 'c' .. instance, ARGV[10])
  disagree = other_keys(ARGV[10])
end

-- Bounds of one call, so that a mass death cannot block the server: 128 members, 512 events (a few ms).
local members, events = 128, 512
local recovered, more = 0, 0

-- Publishes the intent, and once more when it is settled for good; only that clears it. An intent of a member
-- that was just found dead is settled at its deadline, and not before a member timeout has passed:
-- 1: a live writer has an open write; 2: the clock steps forward, beyond the deadline and the writer's timeout; 3: a
-- peer finds the writer silent and publishes the write; 4: the writer beats, is unknown and announces the write
-- again; 5: the writer commits and dies. An intent that 3 had cleared would be missing between 3 and 4.
local function settle(intent, just_dead)
  local value = redis.call('HGET', w, intent)
  if not value then
    redis.call('ZREM', m, intent)
    return
  end
  local deadline = struct.unpack('>I8', value)
  local _
  _, epoch = announce(s, j, journal, channel, epoch, string.sub(value, 9))
  recovered = recovered + 1
  if just_dead then
    deadline = math.max(deadline, now + timeout)
  end
  if deadline <= now then
    redis.call('HDEL', w, intent)
    redis.call('ZREM', m, intent)
  else
    redis.call('ZADD', m, score(deadline - RECOVERED), intent)
  end
end

local intents
local function expire_member(member)
  intents = intents or redis.call('HKEYS', w)
  for _, intent in ipairs(intents) do
    -- An intent with a place of its own in m was settled by an earlier call.
    if #intent == 16 and string.sub(intent, 1, 8) == member and not redis.call('ZSCORE', m, intent) then
      if recovered >= events then
        return false
      end
      settle(intent, true)
    end
  end
  redis.call('ZREM', m, member)
  redis.call('HDEL', w, member, 'c' .. member)
  return true
end

-- A member is dead when it has been silent for its own timeout and for this caller's.
local function is_dead(member, beat_at)
  local own = tonumber(redis.call('HGET', w, member) or timeout)
  return member ~= instance and beat_at <= now - own
end

-- Recovered intents come first, and then the member that is silent for longest. Mostly there is neither.
local due, silent = {}, {}
local first = redis.call('ZRANGE', m, 0, 0, 'WITHSCORES')
if tonumber(first[2]) <= now - timeout then
  due = redis.call('ZRANGEBYSCORE', m, '-inf', score(now - RECOVERED), 'LIMIT', 0, members)
  for _, intent in ipairs(due) do
    settle(intent, false)
  end
  silent = redis.call('ZRANGEBYSCORE', m, 0, score(now - timeout), 'WITHSCORES', 'LIMIT', 0, members)
end
local expired = 0
for n = 1, #silent, 2 do
  if #silent[n] == 8 and is_dead(silent[n], tonumber(silent[n + 1])) then
    if recovered >= events or not expire_member(silent[n]) then
      more = 1
      break
    end
    expired = expired + 1
  end
end
-- Where none of so many is dead, they have longer timeouts and beat: a dead one is among the most silent as
-- soon as they have, because its beat alone grows no younger.
if #due == members or (#silent == 2 * members and expired > 0) then
  more = 1
end

-- How many are to hear what is delivered, where they are many.
local function count()
  local all = redis.call('ZCARD', m) - 1
  if all < FEW then
    redis.call('HDEL', s, 'm')
  elseif tostring(all) ~= stored[5] then
    redis.call('HSET', s, 'm', all)
  end
end
if known == 0 or stored[5] then
  count()
end

-- Begins the shared tier's history, or begins it again where it has a hole. It outlives its last user by an
-- hour or two.
local function share(head)
  local r, f, lease = KEYS[6], KEYS[7], 3600000
  local covered = redis.call('HMGET', f, 'e', 'q')
  if covered[1] ~= epoch or covered[2] ~= head or not redis.call('ZSCORE', r, '-') then
    redis.call('DEL', r, f)
    redis.call('ZADD', r, head, '-')
    redis.call('HSET', f, 'e', epoch, 'q', head)
  end
  if redis.call('PTTL', f) < lease or redis.call('PTTL', r) < lease then
    redis.call('PEXPIRE', r, 2 * lease)
    redis.call('PEXPIRE', f, 2 * lease)
  end
  if redis.call('HGET', s, 't') ~= tier then
    redis.call('HSET', s, 't', tier)
  end
end

-- Read after everything above, so that the head covers what was published on behalf of the dead.
local head, d, waits, all = unpack(redis.call('HMGET', s, 'q', 'd', 'n', 'm'))
if tier ~= '0' then
  share(head)
end
-- What was published for the dead does not wait; what waits otherwise is delivered as soon as it is due.
local wait = waits and left_until(d) or 0
if waits and (wait == 0 or recovered > 0) then
  flush(s, channel, d, waits, all)
  wait = 0
end
local _, pause = pace_of(d)
local answer = { tonumber(epoch), tonumber(head), known, recovered, more, disagree, wait + pause / SHARE, pause, 0 }
if known == 0 then
  -- Recovered intents are below zero, and '-' is at infinity.
  answer[9] = #redis.call('ZRANGEBYSCORE', m, 0, '(+inf') - 1
end

-- With the clock in it no number is given twice, though the lane be put back to what it was.
local function count_and_look()
  local fields = { 'v' }
  for n = 11, #ARGV do
    fields[#fields + 1] = 'x' .. ARGV[n]
  end
  local found = redis.call('HMGET', s, unpack(fields))
  local last = tonumber(found[1] or '') or 0
  -- Numbers are exact up to 2^53: one beyond is damage.
  local number = math.max(last < 9007199254740991 and last + 1 or 0, now * 1000)
  redis.call('HSET', s, 'v', score(number))
  answer[10] = number
  for n = 2, #fields do
    local of, mark, place = string.match(found[n] or '', '^(%d+):(%d+):(%d+)$')
    answer[7 + 2 * n] = of == epoch and tonumber(mark) or -1
    -- As text: a place takes more than the 53 bits of a number.
    answer[8 + 2 * n] = place or '0'
  end
end
if #ARGV > 10 then
  count_and_look()
end
return answer
