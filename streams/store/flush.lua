#!lua flags=
-- Write one checkpoint of one partition: all of it, or nothing.
--
-- The shebang makes Redis refuse the script as a whole when it is out of memory. Checks come first,
-- and a script runs alone, so nothing can fail or come between once writing has begun. Values are
-- absolute: writing them twice changes nothing.
--
-- KEYS[1]  the partition's hash
-- ARGV     owner, from offset, to offset, flush id, number of deletes, deletes..., field, value...
-- Returns  OK | ALREADY (this very flush was written before) | FENCED (another owner) | CONFLICT
--          (the stored offset is not the one this flush builds on)
local stored = redis.call('HMGET', KEYS[1], 'owner', 'offset', 'flush')
if stored[1] ~= ARGV[1] then
  return 'FENCED'
end
-- With the offset: a damaged id of the flush before may be the id of this one.
if stored[3] == ARGV[4] and stored[2] == ARGV[3] then
  return 'ALREADY'
end
if (stored[2] or '0') ~= ARGV[2] then
  return 'CONFLICT'
end

local CHUNK = 2000 -- unpack() takes fewer than 8,000 values
local deletes = tonumber(ARGV[5])
for at = 6, 5 + deletes, CHUNK do
  redis.call('HDEL', KEYS[1], unpack(ARGV, at, math.min(at + CHUNK - 1, 5 + deletes)))
end
for at = 6 + deletes, #ARGV, CHUNK do
  redis.call('HSET', KEYS[1], unpack(ARGV, at, math.min(at + CHUNK - 1, #ARGV)))
end
redis.call('HSET', KEYS[1], 'offset', ARGV[3], 'flush', ARGV[4])
return 'OK'
