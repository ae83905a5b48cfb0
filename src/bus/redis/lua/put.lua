-- KEYS: s r f, the value, its claim.
-- ARGV: subject, claim to give up or '', and to store a value: head, body ('': the bytes that are there), when
-- Redis may forget it (ms).
-- Returns: 0 refused, 1 stored, 2 renewed, 3 the body is needed (the claim stays).
local s, r, f, v, c = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local subject, id, head, body, forget = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local function place()
  local lane_epoch, lane_sequence = covered(s, f)
  local epoch, sequence, _, _, digest, tags = head_of(head)
  if not lane_epoch or not epoch or sequence > tonumber(lane_sequence)
    or not counts(r, f, lane_epoch, subject, tags, epoch, sequence) then
    return 0
  end
  local old_epoch, old_sequence, _, _, old_digest = head_of(redis.call('GETRANGE', v, 0, HEAD + 8 * 255 - 1))
  if old_epoch == epoch and old_sequence > sequence then
    return 0
  elseif body ~= '' then
    redis.call('SET', v, head .. body, 'PXAT', forget)
    return 1
  elseif old_digest ~= digest then
    return 3
  end
  -- The digest covers the tags, so the head has the same length.
  redis.call('SETRANGE', v, 0, head)
  redis.call('PEXPIREAT', v, forget)
  return 2
end

local stored = head and place() or 0
if stored ~= 3 and id ~= '' then
  local held = redis.call('GET', c)
  if held and string.sub(held, 17) == id then
    redis.call('DEL', c)
  end
end
return stored
