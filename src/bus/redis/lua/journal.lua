-- KEYS: s j. ARGV: last sequence known, events at most.
-- Returns: epoch, sequence, then sequence and payload of each event after that, oldest first; epoch 0 in a
-- life of the server that no verification has found: a promoted replica gives numbers out again that its
-- journal does not have, and a page of it must not fill a gap in what another server has delivered.
local head = redis.call('HMGET', KEYS[1], 'q', 'e', 'r')
-- As in verify.lua.
local info = redis.call('INFO', 'server', 'replication')
local process, term = string.match(info, 'run_id:(%x+)'), string.match(info, 'master_replid:(%x+)')
if not (head[1] and head[2] and process) or head[3] ~= process .. (term or '') then
  return { 0, 0 }
end
local page = { tonumber(head[2]), tonumber(head[1]) }
local from = string.format('%.0f-0', tonumber(ARGV[1]) + 1)
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', ARGV[2])) do
  page[#page + 1] = tonumber(string.match(entry[1], '^%d+'))
  page[#page + 1] = entry[2][2]
end
return page
