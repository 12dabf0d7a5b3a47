-- Add one gateway's batch of usage, once: a batch that is here already, since its answer was lost, changes nothing.
-- KEYS: the number of the gateway's last batch; then for each count the day's hash. ARGV: the batch's number, seconds
--   to remember it; then for each count its field and what to add.
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) <= last then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
for i = 2, #KEYS do
  redis.call('HINCRBY', KEYS[i], ARGV[2 * i - 1], ARGV[2 * i])
end
return 1
