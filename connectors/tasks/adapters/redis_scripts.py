"""What the Redis adapter changes, each change one script: Redis runs it whole, and writes it whole to its log.

Beside each task's hash ``t:ID`` there are

- ``ready``, a stream of the tasks that are due, whose group's pending entries are the claims that run,
- ``later``, the tasks that are put off, by when they are due,
- ``ended``, the ends, by when they came,
- ``waiting``, a hash of how many tasks without an end each account has, and all together under "",
- ``key:…``, the ids of what was put, by the keys of who put it.

A lease is the idle time of its pending entry: one that is to run for L milliseconds is set to FULL - L, and has run out
when it has come to FULL, however long the leases of others are. Times are Redis's own, in milliseconds; ARGV[1] is by
how much the queue's clock is ahead of it.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "workers"
CONSUMER: Final = "worker"
"""One for all: whose a claim is, its lease tells. What Redis keeps of a consumer would stay behind each process."""
FULL: Final = 30 * 86400_000
SWEEP: Final = 500
"""Ends that one step of the sweep forgets."""

_HEAD: Final = f"""
local p, ahead = KEYS[1], tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ahead
local ready, later, ended, waiting = p .. 'ready', p .. 'later', p .. 'ended', p .. 'waiting'
local function key(id) return p .. 't:' .. id end
local function make_ready(id) redis.call('HSET', key(id), 'entry', redis.call('XADD', ready, '*', 'id', id)) end
local function lease_until(entry, lease)
  redis.call('XCLAIM', ready, '{GROUP}', '{CONSUMER}', 0, entry,
    'IDLE', string.format('%.0f', math.max(0, {FULL} - lease - ahead)), 'JUSTID')
end
local function run_out(entry)
  return #redis.call('XPENDING', ready, '{GROUP}', 'IDLE', string.format('%.0f', {FULL} - ahead), entry, entry, 1) > 0
end
local function leave(entry)
  if entry and entry ~= '' then
    redis.call('XACK', ready, '{GROUP}', entry)
    redis.call('XDEL', ready, entry)
  end
end
local function count(account, by)
  for _, who in ipairs({{account, ''}}) do
    if redis.call('HINCRBY', waiting, who, by) <= 0 then redis.call('HDEL', waiting, who) end
  end
end
local function finish(id, status, account, result)
  redis.call('HSET', key(id), 'status', status, 'lease', '', 'entry', '', 'ended', string.format('%.0f', now))
  redis.call('HDEL', key(id), 'content')
  redis.call('PEXPIRE', key(id), 2 * result)
  redis.call('ZADD', ended, now, id)
  count(account, -1)
end
"""

PUT: Final = (
    _HEAD
    + """
local id, name, most = ARGV[2], p .. 'key:' .. ARGV[3], tonumber(ARGV[5])
local known = redis.call('GET', name)
if known then return {'known', known} end
local account = ARGV[6]
local has = tonumber(redis.call('HGET', waiting, account) or '0')
if has >= most then return {'many', tostring(has)} end
redis.call('HSET', key(id), 'status', 'pending', 'attempts', 0, 'lost', 0, 'doubtful', 0, 'reason', '', 'lease', '',
  'account', account, 'sender', ARGV[7], 'to', ARGV[8], 'content', ARGV[9], 'size', #ARGV[9], 'trace', ARGV[10],
  'digest', ARGV[11])
make_ready(id)
count(account, 1)
redis.call('SET', name, id, 'PX', ARGV[4])
return {'made', id}
"""
)

TASK: Final = (
    _HEAD
    + """
local found = redis.call('HMGET', key(ARGV[2]), 'account', 'to', 'status', 'attempts', 'reason', 'doubtful', 'digest',
  'ended', 'lease', 'entry', 'lost')
if not found[1] or (found[8] and tonumber(found[8]) <= now - tonumber(ARGV[3])) then return false end
if found[9] ~= '' and run_out(found[10]) then found[6] = '1' end
return {found[1], found[2], found[3], found[4], found[5], found[6], found[7]}
"""
)

CLAIM: Final = (
    _HEAD
    + f"""
local limit, lease, name = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, limit)) do
  redis.call('ZREM', later, id)
  make_ready(id)
end
local found = {{}}
local function take(entry, id, lost)
  if redis.call('HGET', key(id), 'entry') ~= entry then
    leave(entry)
    return
  end
  lease_until(entry, lease)
  redis.call('HSET', key(id), 'lease', name)
  if lost > 0 then
    redis.call('HINCRBY', key(id), 'lost', lost)
    redis.call('HSET', key(id), 'doubtful', 1)
  end
  local one = redis.call('HMGET', key(id), 'account', 'to', 'attempts', 'reason', 'doubtful', 'digest', 'sender',
    'trace', 'size', 'lost')
  table.insert(one, 1, id)
  table.insert(found, one)
end
local from = '0-0'
repeat
  local old = redis.call('XAUTOCLAIM', ready, '{GROUP}', '{CONSUMER}', string.format('%.0f', {FULL} - ahead), from,
    'COUNT', limit - #found)
  from = old[1]
  for _, one in ipairs(old[2]) do take(one[1], one[2][2], 1) end
until from == '0-0' or #found >= limit
while #found < limit do
  local new = redis.call('XREADGROUP', 'GROUP', '{GROUP}', '{CONSUMER}', 'COUNT', limit - #found, 'STREAMS', ready, '>')
  if not new then break end
  for _, one in ipairs(new[1][2]) do take(one[1], one[2][2], 0) end
end
local info, last = redis.call('XINFO', 'STREAM', ready), '0-0'
for n = 1, #info, 2 do if info[n] == 'last-generated-id' then last = info[n + 1] end end
local next, due = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES'), ''
if next[2] then due = string.format('%.0f', math.max(0, tonumber(next[2]) - now)) end
return {{found, last, due}}
"""
)

EXTEND: Final = (
    _HEAD
    + """
local kept = {}
for n = 3, #ARGV, 2 do
  local found = redis.call('HMGET', key(ARGV[n]), 'lease', 'entry')
  if found[1] and found[1] ~= '' and found[1] == ARGV[n + 1] then
    lease_until(found[2], tonumber(ARGV[2]))
    table.insert(kept, ARGV[n])
  end
end
return kept
"""
)

SETTLE: Final = (
    _HEAD
    + """
local id, lease, what, reason, doubtful = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local attempted, delay, result = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local found = redis.call('HMGET', key(id), 'lease', 'done', 'entry', 'account')
-- the repeat of a call whose answer was lost
if found[2] and found[2] == lease then return 'ok' end
if not found[1] or found[1] ~= lease then return 'lost' end
leave(found[3])
redis.call('HSET', key(id), 'done', lease)
if attempted == '1' then
  redis.call('HINCRBY', key(id), 'attempts', 1)
  redis.call('HSET', key(id), 'lost', 0)
end
if doubtful == '1' then redis.call('HSET', key(id), 'doubtful', 1) end
if what ~= 'back' then redis.call('HSET', key(id), 'reason', reason) end
if what == 'back' or what == 'retry' then
  redis.call('HSET', key(id), 'lease', '', 'entry', '')
  if delay > 0 then redis.call('ZADD', later, now + delay, id) else make_ready(id) end
else
  finish(id, what, found[4], result)
end
return 'ok'
"""
)

CANCEL: Final = (
    _HEAD
    + """
local id, account, result = ARGV[2], ARGV[3], tonumber(ARGV[4])
local found = redis.call('HMGET', key(id), 'status', 'account', 'lease', 'entry', 'ended')
if not found[1] or (account ~= '' and account ~= found[2]) then return 'missing' end
if found[5] and tonumber(found[5]) <= now - result then return 'missing' end
if found[1] ~= 'pending' then return found[1] end
if found[3] ~= '' then
  if not run_out(found[4]) then return 'busy' end
  redis.call('HSET', key(id), 'doubtful', 1)
end
leave(found[4])
redis.call('ZREM', later, id)
redis.call('HSET', key(id), 'reason', '')
finish(id, 'cancelled', found[2], result)
return 'cancelled'
"""
)

SWEEP_STEP: Final = (
    _HEAD
    + f"""
local old = redis.call('ZRANGEBYSCORE', ended, '-inf', now - tonumber(ARGV[2]), 'LIMIT', 0, {SWEEP})
for _, id in ipairs(old) do
  redis.call('ZREM', ended, id)
  redis.call('DEL', key(id))
end
return #old
"""
)
