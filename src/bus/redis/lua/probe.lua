-- KEYS: s j d m w r f, a value of the shared tier, and a key that never exists. ARGV: a channel without listeners.
-- Returns: INFO's section "server" ('' where it is refused), and then, for each command that failed, its name
-- and the error. Changes nothing.
-- The server looks whether it knows a command, and whether the user may run it, before the command looks at
-- its arguments. So each call is one that the command itself refuses, or that finds nothing to do. Every
-- command that a script runs is here: rights.rs compares.
local s, j, d, m, w, r, f, v, x = unpack(KEYS)
-- As in lane.lua, before what makes it a channel without listeners.
local publish = string.find(ARGV[1], '}e%d+:') and 'PUBLISH' or 'SPUBLISH'
local calls = {
  { 'TIME' }, { publish, ARGV[1], '' },
  { 'DEL', x }, { 'PTTL', x }, { 'PEXPIRE', x, '1' }, { 'PEXPIREAT', x, '1' },
  { 'GET', d }, { 'STRLEN', d }, { 'SET', v, '', 'PX', '0' }, { 'GETRANGE', v, '0', '0' }, { 'SETRANGE', v, '-1', '' },
  { 'HGET', s, '' }, { 'HMGET', s, '' }, { 'HSET', s, '', '', '' }, { 'HINCRBY', s, '', 'no' },
  { 'HDEL', w, '' }, { 'HKEYS', w }, { 'HLEN', f },
  { 'XADD', j, '0-0', '', '' }, { 'XRANGE', j, '+', '-' },
  { 'ZADD', m, 'XX', '0', '' }, { 'ZREM', m, '' }, { 'ZSCORE', m, '' }, { 'ZRANGEBYSCORE', m, '1', '0' },
  { 'ZCARD', r }, { 'ZMSCORE', r, '' }, { 'ZRANGE', r, '1', '0' }, { 'ZREMRANGEBYRANK', r, '1', '0' },
}
-- No script may run these. For a command that it does not know, the server answers differently.
local outside = { { 'SUBSCRIBE', ARGV[1] } }
if publish == 'SPUBLISH' then
  outside = { { 'ASKING' }, { 'SSUBSCRIBE', ARGV[1] } }
end
local failed = {}
local function try(call)
  local answer = redis.pcall(unpack(call))
  if type(answer) == 'table' and answer.err then
    failed[#failed + 1] = call[1]
    failed[#failed + 1] = answer.err
  end
  return answer
end
local info = try({ 'INFO', 'server' })
for _, call in ipairs(calls) do
  try(call)
end
for _, call in ipairs(outside) do
  try(call)
end
if not struct then
  failed[#failed + 1] = 'struct'
  failed[#failed + 1] = 'ERR unknown library of Lua'
end
return { type(info) == 'string' and info or '', unpack(failed) }
