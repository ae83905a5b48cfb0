-- KEYS: s j m w, and a key that never exists. ARGV: a channel without listeners.
-- Returns: the commands that the ACL refuses to this user; changes nothing.
-- The ACL is asked before a command looks at its arguments, so each call is one that the command
-- itself refuses, or that finds nothing to do.
local s, j, m, w, nothing = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
-- As in lane.lua, before what makes it a channel without listeners.
local publish = string.find(ARGV[1], '}e%d+:') and 'PUBLISH' or 'SPUBLISH'
local calls = {
  { 'TIME' }, { 'INFO', 'server' }, { publish, ARGV[1], '' }, { 'DEL', nothing },
  { 'HGET', s, '' }, { 'HMGET', s, '' }, { 'HSET', s, '', '', '' }, { 'HINCRBY', s, '', 'no' },
  { 'XADD', j, '0-0', '', '' }, { 'XRANGE', j, '+', '-' },
  { 'ZADD', m, 'XX', '0', '' }, { 'ZREM', m, '' }, { 'ZSCORE', m, '' }, { 'ZRANGEBYSCORE', m, '1', '0' },
  { 'HGET', w, '' }, { 'HSET', w, '', '', '' }, { 'HDEL', w, '' }, { 'HKEYS', w },
}
local refused = {}
for _, call in ipairs(calls) do
  local answer = redis.pcall(unpack(call))
  if type(answer) == 'table' and answer.err then
    if string.find(answer.err, 'NOPERM', 1, true) or string.find(answer.err, 'The user executing the script', 1, true) then
      refused[#refused + 1] = string.lower(call[1])
    end
  end
end
return refused
