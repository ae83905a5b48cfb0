-- KEYS: s j. ARGV: last sequence known, events at most.
-- Returns: epoch, sequence, then sequence and payload of each event after that, oldest first.
local head = redis.call('HMGET', KEYS[1], 'q', 'e')
if not (head[1] and head[2]) then
  return { 0, 0 }
end
local page = { tonumber(head[2]), tonumber(head[1]) }
local from = string.format('%.0f-0', tonumber(ARGV[1]) + 1)
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', ARGV[2])) do
  page[#page + 1] = tonumber(string.match(entry[1], '^%d+'))
  page[#page + 1] = entry[2][2]
end
return page
