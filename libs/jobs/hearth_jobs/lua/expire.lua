-- End an attempt whose worker is dead: its lease ran out, or its owner is proven gone.
-- KEYS: job, active jobs. ARGV: job id, attempt, terminal status or '' for another attempt, now as text, words,
--   owner, '1' when there is proof that it is gone.
-- Returns 'KILLED' | 'FAILED' | 'FINISHED' | 'RETRY', or false when it is held after all, or buried already.
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'RUNNING' or redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[2] then return false end
if (redis.call('HGET', KEYS[1], 'owner') or '') ~= ARGV[6] then return false end
if ARGV[7] ~= '1' then
  local clock = redis.call('TIME')
  local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
  if tonumber(redis.call('HGET', KEYS[1], 'lease_until_ms') or '0') > now_ms then return false end
end
redis.call('HSET', KEYS[1], 'owner', '', 'lease_until_ms', '0')
redis.call('HDEL', KEYS[1], 'eta_seconds')
if redis.call('HGET', KEYS[1], 'interrupt') == '1' then
  redis.call('HSET', KEYS[1], 'status', 'KILLED', 'finished_at', ARGV[4], 'stage', 'interrupted')
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 'KILLED'
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'status', ARGV[3], 'finished_at', ARGV[4], 'stage', string.lower(ARGV[3]))
  if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[5]) end
  redis.call('ZREM', KEYS[2], ARGV[1])
  return ARGV[3]
end
redis.call('HSET', KEYS[1], 'stage', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'deaths', 1)
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 'RETRY'
