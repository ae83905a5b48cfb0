-- KEYS: s r f, the value, its claim.
-- ARGV: subject, thousandths of its life that a value may be past, time before its end (ms, at most half
-- of its life) in which it does not count either, and to claim it: id, lifetime (ms).
-- Returns: epoch, sequence, now (ms), what was found, and with
--   1 (a value): the value; 2 (nothing; the claim, if asked for, is the caller's): the digest of what is
--   there and does not count, or ''; 3 (another caller has the claim) and 0 (there is no history): ''.
local s, r, f, v, c = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local subject, part, margin, id = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local now = now_ms()
local lane_epoch, lane_sequence = covered(s, f)
-- A promoted replica may have lost invalidations, and it hands out their numbers again until a
-- verification gives it an epoch of its own.
-- As in verify.lua.
local info = redis.call('INFO', 'server', 'replication')
local process, term = string.match(info, 'run_id:(%x+)'), string.match(info, 'master_replid:(%x+)')
if not lane_epoch or not process or redis.call('HGET', s, 'r') ~= process .. (term or '') then
  return { 0, 0, now, 0, '' }
end
local function answer(found, data)
  return { tonumber(lane_epoch), tonumber(lane_sequence), now, found, data }
end

local function young(born, expires)
  local life = expires - born
  return (now - born) * 1000 < life * part and now + math.min(margin, life / 2) < expires
end

local head = redis.call('GETRANGE', v, 0, HEAD + 8 * 255 - 1)
local epoch, sequence, born, expires, digest, tags = head_of(head)
if epoch and young(born, expires)
  and sequence <= tonumber(lane_sequence) and counts(r, f, lane_epoch, subject, tags, epoch, sequence) then
  return answer(1, redis.call('GET', v))
end
if id then
  local held = redis.call('GET', c)
  if held and #held == 32 and string.sub(held, 17) ~= id then
    local epoch, sequence = struct.unpack('>I8I8', held)
    if sequence <= tonumber(lane_sequence) and counts(r, f, lane_epoch, subject, '', epoch, sequence) then
      return answer(3, '')
    end
  end
  redis.call('SET', c, struct.pack('>I8I8', lane_epoch, lane_sequence) .. id, 'PX', ARGV[5])
end
return answer(2, digest or '')
