-- Begin an attempt at a job, if nobody else holds it. What a dead worker held is free once it is buried (expire.lua):
-- that its lease ended proves nothing, for Redis may have been away.
-- KEYS: job, active jobs. ARGV: job id, owner, lease in ms, now as text, '1' when processes of it run here already: then
--   it is not KILLED for an interrupt that nobody heeded yet, but claimed by the one who can end them.
-- Returns {'claimed', attempt} | {'missing'} | {'over', status} | {'held', owner}
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'missing'} end
if status ~= 'CREATED' and status ~= 'RUNNING' then return {'over', status} end
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= '' then return {'held', owner} end
if redis.call('HGET', KEYS[1], 'interrupt') == '1' and ARGV[5] ~= '1' then
  redis.call('HSET', KEYS[1], 'status', 'KILLED', 'finished_at', ARGV[4], 'stage', 'interrupted', 'owner', '')
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {'over', 'KILLED'}
end
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'status', 'RUNNING', 'owner', ARGV[2], 'progress', '0', 'stage', 'starting',
  'lease_until_ms', now_ms + tonumber(ARGV[3]))
redis.call('HDEL', KEYS[1], 'eta_seconds')
if status == 'CREATED' then redis.call('HSET', KEYS[1], 'started_at', ARGV[4]) end
redis.call('ZADD', KEYS[2], now_ms + tonumber(ARGV[3]), ARGV[1])
return {'claimed', attempt}
