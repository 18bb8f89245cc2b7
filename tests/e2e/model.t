#!/bin/bash
# A model of one's own from its text to a moved breaker, and over dump and restore. And what may be written to a meter: nothing but the
# model's switch instructions has a way to the wire.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

# Who can build a write at all: the sender of commands and of the clock, the tool for a person; the plan tries instructions out.
users_of()
{
	local object
	for object in "$here"/../../poller/*.o; do
		nm "$object" | grep -q " U $1\$" && basename "$object" .o
	done | grep -vxE 'command|command_[a-z0-9]+|clock|meter_clock|cabinet_switch|plan|plan_model'
}
for builder in mbap_build_write dlt645_build_write dlt645_build_switch dlt645_build_clock; do
	is "$(users_of "$builder")" '' "nobody else calls $builder"
done
is "$(nm "$POLLER" 2>/dev/null | grep -oE 'modbus_(write|mask_write)[a-z_]*' | sort -u)" '' 'nor does libmodbus write anything'

setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 0
port a 0
meter 1 DDS238 watts=1234 voltage_v=229.3 start_kwh=123.45
meter 2 DDS238 watts=500 voltage_v=230 start_kwh=50
END
setup 'start the database' field_start
sql "CREATE ROLE chief LOGIN; GRANT submeter_admin TO chief; INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'chief')" >/dev/null
as_chief() { server_psql db -c 'SET SESSION AUTHORIZATION chief' -c "$1"; }

cat >"$SM_RUN/own.txt" <<'END'
model Ours
vendor us
source the manual, page 12
read modbus phases=1 max=10 gap=0
point energy_wh 3:10 u32be 10
point v_a       3:12 u16   0.1
point power_w   3:14 i16   1
point relay     3:26 u16   1 closed=1 open=0
switch open     16:26 0    settle=300
switch close    16:26 1    settle=300
END
ok 'the text is tried on the device' "$POLLER" check-model --address "127.0.0.1:$(farm_port a)" --unit 1 --timeout-ms 10000 --models "$SM_RUN/own.txt"
is "$(as_chief "SELECT submeter.add_meter_models(\$t\$$(cat "$SM_RUN/own.txt")\$t\$)" | tail -1)" 1 'and taken by the database'
setup 'a gateway' field_gateway 1 "127.0.0.1:$(farm_port a)" 'poll_interval=300 ms' timeout_ms=500
setup 'a meter of it' field_meter 1 1 1 Ours
setup 'a built-in one' field_meter 2 1 2 'DDS238-2 ZN/SR'
poller_start
reads() { sql "SELECT count(*) > 1 FROM submeter.reading WHERE meter_id = $1 AND energy_wh = $2"; }
wait_for 40 'the poller reads it' says t reads 1 123450
wait_for 40 'as well as the built-in one' says t reads 2 50000
is "$(farm log a writes)" 0 'and writes nothing'
sql "SELECT submeter.request_command(1, 1, 'open', 'a trial')" >/dev/null
state() { sql 'SELECT state FROM submeter.command ORDER BY command_id DESC LIMIT 1'; }
wait_for 40 'its breaker opens' says confirmed state
is "$(farm get a 1 relay) $(farm get a 1 writes) $(farm get a 2 writes)" 'open 1 0' 'by one write'
like "$(farm log a)" 'write=[0-9]+:1:16:0x001A:0:ok' 'to the register of the instruction'
poller_stop
is "$(farm get a 1 register_wh) $(farm get a 2 register_wh)" '123450 50000' 'no counter was touched'
is "$(farm log a refusals 2>/dev/null; farm get a 1 refusals)" 0 'the map without gaps is never refused'

# What administrators cannot do to built-in models.
for statement in "UPDATE submeter.meter_switch SET address = 0, registers = '{0,0}' WHERE model = 'DDS238-2 ZN/SR'" \
	"DELETE FROM submeter.meter_switch WHERE model = 'DDS238-2 ZN/SR'" "UPDATE submeter.meter_model SET builtin = false WHERE model = 'DDS238-2 ZN/SR'"; do
	as_chief "$statement" >/dev/null 2>&1
done
is "$(sql "SELECT string_agg(action || address || registers::text, ' ' ORDER BY action) FROM submeter.meter_switch WHERE model = 'DDS238-2 ZN/SR'")" \
	'close26{1} open26{0}' 'the instructions of a built-in model stay as they are'

# Dump, restore, create_storage() again: models are as before.
before=$(sql "SELECT md5(submeter.meter_models_text()), count(*) FROM submeter.meter_model")
own=$(sql "SELECT submeter.meter_models_text('{Ours}')")
server_bin db pg_dump -Fc -f "$SM_RUN/dump" "$(sql 'SELECT current_database()')"
server_psql db -c 'CREATE DATABASE copy TEMPLATE template0' >/dev/null
ok 'restored' server_bin db pg_restore --exit-on-error -d copy "$SM_RUN/dump"
is "$(server_psql db copy -c "SELECT md5(submeter.meter_models_text()), count(*) FROM submeter.meter_model")" "$before" 'the copy has the same models'
server_psql db copy -c 'SELECT submeter.create_storage()' >/dev/null
is "$(server_psql db copy -c "SELECT md5(submeter.meter_models_text()), count(*) FROM submeter.meter_model")" "$before" 'also after create_storage()'
is "$(server_psql db copy -c "SELECT submeter.meter_models_text('{Ours}')")" "$own" 'ours among them'
farm_stop
done_testing
