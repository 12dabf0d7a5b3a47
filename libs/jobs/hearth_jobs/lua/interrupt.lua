-- Ask for a job to end. What nobody holds is KILLED at once; what somebody holds gets a flag its holder will see.
-- KEYS: job, active jobs. ARGV: job id, now as text, '1' when processes of it run though nobody may hold it.
-- Returns the status after the call, or false when there is no such job.
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return false end
if status ~= 'CREATED' and status ~= 'RUNNING' then return status end
redis.call('HSET', KEYS[1], 'interrupt', '1')
local until_ms = tonumber(redis.call('HGET', KEYS[1], 'lease_until_ms') or '0')
if status == 'CREATED' or (until_ms == 0 and ARGV[3] ~= '1') then
  redis.call('HSET', KEYS[1], 'status', 'KILLED', 'finished_at', ARGV[2], 'stage', 'interrupted', 'owner', '')
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 'KILLED'
end
redis.call('HSET', KEYS[1], 'stage', 'stopping')
return status
