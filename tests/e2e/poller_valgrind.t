#!/bin/bash
# The poller under valgrind: every wire, a breaker, faults of the line, a plan that changes, a database that goes away.
# (It knows nothing of epoll_pwait2 and says so; the poller then does with epoll_wait.) Not a byte is read that was not written, none is lost at the end.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

cat >"$SM_RUN/checked" <<END
#!/bin/sh
exec valgrind -q --leak-check=full --show-leak-kinds=definite,indirect,possible --errors-for-leak-kinds=definite,indirect,possible \\
	--error-exitcode=99 --log-file=$SM_RUN/valgrind.log "$POLLER" "\$@"
END
chmod +x "$SM_RUN/checked"
POLLER=$SM_RUN/checked
door=$(port_free)
setup 'start the farm' farm_start "$SM_RUN" <<END
port tcp 0
meter 1-3 DDS238-2 watts=1000 start_kwh=100
port rtu 0 wire=rtu
meter 1-2 DDS238-2 watts=1000 start_kwh=100
port dlt 0 wire=dlt645
meter 000000000001 DTSY-645 watts=3000 blocks=no
meter 000000000002 DTSY-645 watts=3000 frame_bytes=8
port box dial 127.0.0.1:$door wire=q376 terminal=4403:1234 every=2
meter 000000000003 DTSY-645 watts=3000
END
setup 'start the database' field_start
make_plan()
{
	field_gateway 1 "127.0.0.1:$(farm_port tcp)" gap_ms=0 'poll_interval=500 ms' &&
		field_gateway 2 "127.0.0.1:$(farm_port rtu)" transport=rtu-over-tcp gap_ms=0 'poll_interval=500 ms' &&
		field_gateway 3 "127.0.0.1:$(farm_port dlt)" transport=dlt645-over-tcp gap_ms=0 'poll_interval=500 ms' &&
		field_gateway 4 "127.0.0.1:$door" transport=q376-transparent dial_in=true registration=4403-1234 'poll_interval=500 ms' &&
		field_gateway 5 "127.0.0.1:1" 'poll_interval=500 ms' &&
		field_meter 1 1 1 'DDS238-2 ZN/SR' && field_meter 2 1 2 'DDS238-2 ZN/SR' && field_meter 3 1 99 'DDS238-2 ZN/SR' &&
		field_meter 4 2 1 'DDS238-2 ZN/SR' && field_meter 5 2 77 'DDS238-2 ZN/SR' &&
		field_meter 6 3 1 'DLT645-2007 three-phase relay' && field_meter 7 3 2 'DLT645-2007 three-phase relay' &&
		field_meter 8 4 3 'DLT645-2007 three-phase relay' && field_meter 9 5 1 'DDS238-2 ZN/SR'
}
setup 'make a plan' make_plan
poller_start
readings()
{
	sql "SELECT count(*) FROM submeter.reading WHERE meter_id = $1"
}
more_than()
{
	[ "$(readings "$1")" -gt "$2" ]
}
for meter in 1 4 6 7 8; do
	wait_for 60 "meter $meter is read" more_than $meter 2
done
id=$(sql "SELECT submeter.request_command(1, 1, 'open', 'test', 'operator')")
wait_for 30 'a breaker opens' says confirmed sql "SELECT state FROM submeter.command WHERE command_id = $id"
for fault in garbage half 'split 30' echo late bad-checksum drop; do
	for port in tcp rtu dlt; do
		# shellcheck disable=SC2086 # the fault and its argument
		farm fault $port $fault count 2 >/dev/null
	done
done
seen=$(readings 7)
wait_for 60 'the lines get over it' more_than 7 $((seen + 3))
sql "UPDATE submeter.gateway SET enabled = false WHERE gateway_id = 2; UPDATE submeter.meter SET bus_address = '3', gateway_id = 1 WHERE meter_id = 9;
	UPDATE submeter.meter SET model = 'DLT645-2007 single-phase' WHERE meter_id = 6" >/dev/null
kill -HUP "$POLLER_PID"
seen=$(readings 6)
wait_for 60 'another plan' more_than 6 $((seen + 3))
setup 'stop the database' server_stop db
sleep_until=$((SECONDS + 3))
passed()
{
	[ "$SECONDS" -ge "$sleep_until" ]
}
wait_for 10 'readings wait on the disk' passed
setup 'start the database again' server_start db
seen=$(readings 7)
wait_for 60 'the database is back' more_than 7 $((seen + 5))
ok 'the poller ends well' poller_stop
is "$(grep '^==' "$SM_RUN/valgrind.log")" '' 'and valgrind has nothing to say'
done_testing
