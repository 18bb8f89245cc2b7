#!/bin/bash
# No reading is lost: database away, kill -9 of the poller and of the server, bad rows, a damaged spool,
# a full one, a full disk.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 1
port a 0
meter 1-4 DDS238-2 watts=1000 start_kwh=100
END
setup 'start the database' field_start
setup 'room for readings of fixed days' sql "SELECT submeter.create_partitions('2026-10-01', '2026-11-02')" >/dev/null
a=$(farm_port a)
dds='DDS238-2 ZN/SR'
make_plan()
{
	local meter
	field_gateway 1 "127.0.0.1:$a" timeout_ms=2000 gap_ms=0 'poll_interval=200 ms'
	for meter in 1 2 3 4; do
		field_meter "$meter" 1 "$meter" "$dds" || return
	done
}
setup "make a plan" make_plan

# --check and --once
is "$(poller_run --check 2>/dev/null | head -4 | tr '\n' ' ')" 'gateways: 1 meters: 4 models: 1 problems: 0 ' '--check lists the plan'
ok '--once reads every meter' poller_run --once 2>"$SM_RUN/once.log"
is "$(sql 'SELECT count(DISTINCT meter_id) FROM submeter.reading')" 4 'and delivers'
farm down a
ok '--once fails when no meter answers' eval '! poller_run --once 2>>"$SM_RUN/once.log"'
farm up a
is "$("$POLLER" --version)" "submeter-poller $(sed -n "s/^default_version = '\(.*\)'/\1/p" "$here/../../submeter.control")" '--version'
ok 'a wrong option is refused' eval '"$POLLER" --nonsense 2>/dev/null; [ $? = 2 ]'
ok '--check without a database says so' eval \
	'"$POLLER" --allow-root --check --dsn "host=$SM_RUN port=1 user=x dbname=x" 2>/dev/null; [ $? = 3 ]'

poller_start
readings()
{
	sql 'SELECT count(*) FROM submeter.reading'
}
grown()
{
	local now
	now=$(readings) && [ -n "$now" ] && [ "$now" -gt "$1" ]
}
spooled()
{
	[ "$(spool 'SELECT count(*) FROM reading' 2>/dev/null || echo 0)" -gt "$1" ]
}
# gaps MS: pairs of neighbouring readings of a meter that lie further apart
gaps()
{
	sql "SELECT count(*) FROM (
		SELECT ts - lag(ts) OVER (PARTITION BY meter_id ORDER BY ts) AS gap FROM submeter.reading
		WHERE ts > '$since') x WHERE gap > interval '$1 ms'"
}
wait_for 15 'it reads' grown 12
since=$(sql 'SELECT max(ts) FROM submeter.reading')
ok 'a second poller on the same spool is refused' eval \
	'poller_run --once 2>"$SM_RUN/second.log"; grep -q "in use by another poller" "$SM_RUN/second.log"'

# the database is away while readings go on
setup 'stop the server' server_stop db fast
wait_for 30 'readings gather in the spool' spooled 100
setup 'start the server' server_start db
before=$(readings)
wait_for 30 'all of them come' grown $((before + 100))
drained()
{
	poller_running && [ "$(spool 'SELECT count(*) FROM reading')" -le 8 ]
}
wait_for 15 'and leave the spool' drained
is "$(gaps 2500)" 0 'without a gap'

# the server is killed in the middle
for _ in 1 2 3; do
	before=$(readings)
	wait_for 30 'readings come' grown "$before"
	setup 'kill the server' server_kill9 db
	setup 'start it' server_start db
done
before=$(readings)
wait_for 30 'readings come after three crashes' grown $((before + 8))
is "$(gaps 2500)" 0 'without a gap'

# the poller is killed while the database is away
setup 'stop the server' server_stop db fast
wait_for 30 'readings gather' spooled 30
poller_kill9
kept=$(spool 'SELECT count(*) FROM reading')
last=$(spool 'SELECT max(ts_ms) FROM reading')
setup 'start the server' server_start db
before=$(readings)
poller_start
wait_for 30 'what the killed poller had kept comes' grown $((before + kept - 1))
isnt "$(sql "SELECT count(*) FROM submeter.reading WHERE ts = to_timestamp($last / 1000.0)")" 0 'up to the last one'

# a poller that is killed again and again leaves nothing behind but whole readings
for _ in 1 2 3 4 5; do
	before=$(readings)
	wait_for 30 'it reads again' grown "$before"
	poller_kill9
	poller_start
done
before=$(readings)
wait_for 30 'it goes on' grown $((before + 8))
poller_stop

# rows the database refuses
spool "INSERT INTO reading (site_id, meter_id, ts_ms, row) VALUES
	(1, 1, 1, '(1,not-a-time,1,,,,,,,,,,,,,,,,,,poll)'), (1, 1, 2, 'rubbish'),
	(1, 2, 3, '(2,2026-11-01T00:00:00.000Z,100000,,,,,,,,,,,,,,,,,,poll)')"
before=$(readings)
poller_start
wait_for 30 'bad rows stop nobody' grown $((before + 8))
poller_stop
is "$(spool "SELECT group_concat(ts_ms || ':' || sqlstate) FROM rejected ORDER BY id")" '1:22007,2:22P02' 'they are kept with the reason'
is "$(sql "SELECT count(*) FROM submeter.reading WHERE ts = '2026-11-01 00:00Z'")" 1 'the good one between them came'

# a damaged spool is put aside, what can be read of it comes, and people hear of it
alarm()
{
	sql "SELECT submeter.evaluate_alarms(1)" >/dev/null && [ "$(sql "SELECT count(*) FROM submeter.open_alarm WHERE rule = '$1'")" = 1 ]
}
setup 'readings wait in the spool' spool "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
	INSERT INTO reading (id, site_id, meter_id, ts_ms, row) SELECT 1000000 + i, 1, 4, i,
		printf('(4,2026-10-02T%02d:%02d:%02d.000Z,50000,,,,,,,,,,,,,,,,,,poll)', i / 3600, i / 60 % 60, i % 60) FROM n"
spool 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
dd if=/dev/urandom of="$SPOOL/spool.db" bs=4096 count=1 seek=40 conv=notrunc 2>/dev/null
before=$(readings)
poller_start
wait_for 30 'it begins a new one' grown "$before"
ok 'and keeps the damaged file' eval 'compgen -G "$SPOOL/damaged-*.db" >/dev/null'
saved()
{
	[ "$(sql "SELECT count(*) FROM submeter.reading WHERE meter_id = 4 AND ts < '2026-10-03'")" -gt 2800 ]
}
wait_for 30 'nearly all that was in it comes' saved
wait_for 30 'the database hears of the damage' alarm spool_damaged
like "$(sql "SELECT detail FROM submeter.open_alarm WHERE rule = 'spool_damaged'")" '2[89][0-9][0-9] readings of it were saved' 'with how much was saved'
poller_stop
is "$(stat -c %a "$SPOOL") $(stat -c %a "$SPOOL/spool.db")" '700 600' 'nobody else can read the spool'

# a disk that takes no more: nothing is read that could not be kept, and it goes on by itself. The log goes
# through a pipe, because it is to be heard of all the same.
before=$(readings)
setup 'make a pipe' mkfifo "$SM_RUN/pipe"
cat "$SM_RUN/pipe" >>"$POLLER_LOG" &
log=$POLLER_LOG
POLLER_LOG=$SM_RUN/pipe
poller_start
POLLER_LOG=$log
wait_for 15 'it reads' grown "$before"
setup 'the disk is full' prlimit --pid "$POLLER_PID" --fsize=4096:unlimited
full_disk()
{
	grep -q 'could not write to the spool' "$POLLER_LOG"
}
wait_for 20 'it is told' full_disk
wait_for 30 'and the database hears of it' alarm spool_full
setup 'there is room again' prlimit --pid "$POLLER_PID" --fsize=unlimited
before=$(readings)
wait_for 30 'it goes on' grown "$before"
not_alarm()
{
	! alarm "$1"
}
wait_for 30 'the alarm ends' not_alarm spool_full
poller_stop

# a directory that is no directory
ok 'a spool that cannot be is refused at the start' eval \
	'"$POLLER" --allow-root --once --dsn "$(poller_dsn)" --spool /dev/null/spool 2>"$SM_RUN/nospool.log"; [ $? = 3 ]'
like "$(cat "$SM_RUN/nospool.log")" 'could not create directory' 'with the reason'

# full: the oldest go, of each hour some stay, and reading goes on
before=$(readings)
poller_start --spool-max-mb 1
wait_for 15 'it reads' grown "$before"
setup 'stop the server' server_stop db fast
setup 'fill the spool' spool ".timeout 10000" "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
	INSERT INTO reading (id, site_id, meter_id, ts_ms, row) SELECT 2000000 + i, 1, 3, 1790812800000 + i * 1000,
		printf('(3,2026-10-01T%02d:%02d:%02d.000Z,50000,,,,,,,,,,,,,,,,,,poll)', i / 3600, i / 60 % 60, i % 60) FROM n"
full()
{
	grep -q 'THE SPOOL IS FULL' "$POLLER_LOG"
}
wait_for 20 'a full spool is told' full
kept=$(spool '.timeout 10000' 'SELECT count(*) FROM reading WHERE id > 3000000')
more_kept()
{
	[ "$(spool '.timeout 10000' 'SELECT count(*) FROM reading WHERE id > 3000000')" -gt "$kept" ]
}
wait_for 20 'reading goes on all the same' more_kept
setup 'start the server' server_start db
wait_for 60 'it empties' drained
is "$(sql "SELECT count(*), sum((n >= 2)::int) FROM (SELECT count(*) AS n FROM submeter.reading WHERE meter_id = 3 AND ts >= '2026-10-01' AND ts < '2026-10-02'
	GROUP BY date_trunc('hour', ts)) x")" '6|6' 'of every hour the first and the last came'
wait_for 30 'the database hears how many were given up' alarm spool_dropped
is "$(sql "SELECT (SELECT sum(count) FROM submeter.spool_event WHERE kind = 'dropped')
	+ (SELECT count(*) FROM submeter.reading WHERE meter_id = 3 AND ts >= '2026-10-01' AND ts < '2026-10-02')")" 20000 'to the last one'
before=$(readings)
wait_for 15 'it reads at the usual pace' grown "$before"
ok 'it stops cleanly' poller_stop
is "$(sql 'SELECT count(*) FROM submeter.reading_suspect WHERE rule = $$second_value$$')" 0 'no reading came with two values'
unlike "$(cat "$POLLER_LOG")" 'runtime error|Sanitizer' 'no complaint of a sanitizer'
done_testing
