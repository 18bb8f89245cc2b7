#!/bin/bash
# A breaker of DL/T 645-1997: no standard way to move it, so a model of one's own says how.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

/usr/bin/python3 "$here/meter1997.py" 000000001997 02123456 >"$SM_RUN/meter.out" 2>&1 &
meter_pid=$!
at_exit kill "$meter_pid"
setup 'start the meter' wait_until 10 grep -q '^ready' "$SM_RUN/meter.out"
port=$(awk '$1 == "ready" { print $2 }' "$SM_RUN/meter.out")
setup 'start the database' field_start
make_plan()
{
	sql "INSERT INTO submeter.meter_model (model, vendor, protocol) VALUES ('own 1997', 'x', 'dlt645-1997');
		INSERT INTO submeter.meter_point (model, metric, di, bytes, type, scale) VALUES ('own 1997', 'energy_wh', '9010', 4, 'bcd', 10);
		INSERT INTO submeter.meter_point (model, metric, di, bytes, type, bit_mask, closed_value, open_value) VALUES ('own 1997', 'relay', 'C020', 1, 'bits', 16, 0, 16);
		INSERT INTO submeter.meter_switch (model, action, function, di, registers, settle_ms) VALUES ('own 1997', 'open', 4, 'DD78', '{0}', 500), ('own 1997', 'close', 4, 'DC78', '{0}', 500)" >/dev/null &&
		field_gateway 1 "127.0.0.1:$port" transport=dlt645-over-tcp timeout_ms=500 'poll_interval=1 s' && field_meter 1 1 1997 'own 1997'
}
setup 'make a plan' make_plan
sql "SELECT submeter.set_meter_key(1, 1, 2, '123456')" >/dev/null
poller_start --log-level debug
setup 'read the meter' wait_until 20 says 123456780 sql 'SELECT max(energy_wh) FROM submeter.reading'

state()
{
	sql "SELECT state || coalesce(' ' || (evidence ->> 'kind'), '') FROM submeter.command WHERE command_id = $1"
}
id=$(sql "SELECT submeter.request_command(1, 1, 'open', 'test')")
wait_for 15 'it opens' says 'confirmed relay_register' state "$id"
id=$(sql "SELECT submeter.request_command(1, 1, 'close', 'test')")
wait_for 15 'and closes' says 'confirmed relay_register' state "$id"
is "$(grep '^write' "$SM_RUN/meter.out")" $'write DD78 00 ok\nwrite DC78 00 ok' 'by one write each, with the password of 1997'
sql "SELECT submeter.set_meter_key(1, 1, 2, '654321')" >/dev/null
id=$(sql "SELECT submeter.request_command(1, 1, 'open', 'test')")
wait_for 15 'a wrong password fails' says 'failed password_refused' state "$id"
like "$(sql "SELECT submeter.request_command(1, 1, 'open', 'test')" 2>&1)" 'the meter refused its password' 'and is not tried again'
is "$(grep -c error04 "$SM_RUN/meter.out")" 1 'the meter saw it once'
like "$(sql "SELECT submeter.set_meter_clock(1, 1, 'test')" 2>&1)" 'cannot be set from here' 'its clock is not set: the model does not allow it'
poller_stop
done_testing
