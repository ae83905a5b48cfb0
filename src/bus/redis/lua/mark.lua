-- KEYS: s.
-- ARGV: a source; epoch and number of its mark, or '0' and '0'; who relays, and for how long in ms it is the only one,
-- where '0' is no longer, or '' and '0' in all lanes but one; the sequence of the last event that it has published;
-- where the log ended when it was read for the mark.
-- Returns: epoch, the number of the verification that was counted last, 1 if the mark was set, 1 if another one relays.
-- In s: 'v' that number; 'x' and the source the mark, as epoch:number:place; 'y' and the source who relays, as id:until.
local s, source, epoch, number, relay, lease = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local stored = redis.call('HMGET', s, 'e', 'v', 'x' .. source, 'y' .. source, 'q')
-- What is damaged counts as nothing.
local of, last = tonumber(stored[1] or '') or 0, tonumber(stored[2] or '') or 0
if relay ~= '' and lease == 0 then
  -- It ends: another one need not wait.
  if string.match(stored[4] or '', '^(%x+):') == relay then
    redis.call('HDEL', s, 'y' .. source)
  end
elseif relay ~= '' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local by, till = string.match(stored[4] or '', '^(%x+):(%d+)$')
  -- A lease far ahead is that of a clock which was set back.
  if by and by ~= relay and tonumber(till) > now and tonumber(till) <= now + 10 * lease then
    return { of, last, 0, 1 }
  end
  redis.call('HSET', s, 'y' .. source, string.format('%s:%.0f', relay, now + lease))
end
-- A mark above every number is that of another state of the lane, and so is an event that the lane has not had.
if number == 0 or stored[1] ~= epoch or number > last or tonumber(ARGV[6]) > (tonumber(stored[5] or '') or 0) then
  return { of, last, 0, 0 }
end
local before_of, before = string.match(stored[3] or '', '^(%d+):(%d+):%d+$')
if before_of ~= epoch or tonumber(before) < number then
  redis.call('HSET', s, 'x' .. source, string.format('%s:%.0f:%s', epoch, number, ARGV[7]))
end
return { of, last, 1, 0 }
