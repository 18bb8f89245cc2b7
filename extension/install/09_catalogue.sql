-- Room: catalogue. The built-in meter models as text, read into meter_model, meter_point, meter_switch and meter_history.
-- The poller has the same text compiled in for work without a database, so what is tried at a cabinet is what the plan says.
--
-- A line is a word and what belongs to it; "#" begins a comment, behind a space also at the end of a line (there it goes into the column source). Lines belong to the
-- model above them.
--
--   model NAME                               begins a model
--   vendor TEXT, note TEXT                   note may stand several times
--   source TEXT                              where the lines below it come from
--   read PROTOCOL phases=N [max=N] [gap=N] [pause=MS]
--                                            modbus, dlt645-2007 or dlt645-1997; most registers in a request, registers that may be read along, pause after an answer
--   clock DI [broadcast] [write]             the meter's clock, whether a broadcast sets it, and whether it may be written with the password
--   point METRIC FUNCTION:ADDRESS TYPE SCALE [mask=N] [closed=N open=N] [lock=MASK:VALUE]
--   point METRIC DI TYPEBYTES SCALE [block=DI+OFFSET] [mask=N] [closed=N open=N] [lock=MASK:VALUE] [keep=MASK:VALUE]
--   switch ACTION FUNCTION:ADDRESS VALUE[,VALUE] [settle=MS]
--   switch ACTION 28 BYTE [settle=MS] [valid=S]
--   switch ACTION FUNCTION:DI BYTE[,BYTE] [settle=MS]
--   history KIND DI [time=DI] [offset=N] [bytes=N] [scale=N] depth=N
--
-- Raw value x SCALE = value in the unit of the metric: Wh, varh, V, A, mA, W, Hz, degrees.

CREATE FUNCTION submeter.built_in_models() RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT $catalogue$
# ---- Meters and breakers that switch -------------------------------------------------------

model DDS238-2 ZN/SR
vendor Hiking
source e-tinkers/Modbus-RTU:examples/DDS238/README.md@14b549d; public source
read modbus phases=1 max=30 gap=10 pause=0
note Prepaid meter with relay; the relay takes function 16 only, function 6 is not understood. Writing 0 to the energy register clears the meter: never done, only the relay is ever written.
point energy_wh     3:10     u32be 10
point v_a           3:12     u16   0.1
point i_a           3:13     u16   0.01
point power_w       3:14     i16   1
point power_factor  3:16     u16   0.001
point frequency_hz  3:17     u16   0.01
point relay         3:26     u16   1 closed=1 open=0
switch open  16:26   0      settle=2000
switch close 16:26   1      settle=2000

model DTSY1352
vendor Acrel
source jerryxiaosa/ems4j:ems-iot/.../plugins/acrel/command (AcrelRegisterMappingEnum, AcrelCutOffTranslator, AcrelRecoverTranslator)@1ed7c67
read modbus phases=3 max=50 gap=16 pause=0
note Prepaid meter of three phases; forced relay control. No relay register is known: power and current are the evidence, where the meter shows them. To hand control back to the meter another mode value is needed, which no source names. Other registers of the family are not confirmed. Secondary values: multiplier = CT x PT.
point energy_wh     3:0      u32be 10  # secondary value
switch open  16:87   1,1    settle=5000
switch close 16:87   1,0    settle=5000

model DDSY1352
vendor Acrel
source jerryxiaosa/ems4j:ems-iot/.../plugins/acrel/command (AcrelRegisterMappingEnum, AcrelCutOffTranslator, AcrelRecoverTranslator)@1ed7c67
read modbus phases=1 max=50 gap=16 pause=0
note Prepaid meter of one phase; forced relay control. No relay register is known: power and current are the evidence, where the meter shows them. To hand control back to the meter another mode value is needed, which no source names. Other registers of the family are not confirmed. Secondary values: multiplier = CT x PT.
point energy_wh     3:0      u32be 10  # secondary value
switch open  16:87   1,1    settle=5000
switch close 16:87   1,0    settle=5000

model Sfere prepaid
vendor Sfere
source jerryxiaosa/ems4j:ems-iot/.../plugins/sfere/command (SfereRegisterMappingEnum, SfereCutOffTranslator, SfereRecoverTranslator)@1ed7c67
read modbus phases=3 max=50 gap=16 pause=0
note DDSY and DTSY. Prepaid meter; the scale is taken over from the Acrel path of the same source and to be checked on site. No relay register known.
point energy_wh     3:115    u32be 10  # scale assumed as on the Acrel path
switch open  16:2853 2      settle=5000
switch close 16:2853 1      settle=5000

model LX47LE-125
vendor Lingxun
source public source (public GitHub, tested against the device 2025-09-10)
read modbus phases=1 max=24 gap=4 pause=0
note Smart breaker without an energy register. High byte 01 of its status is a local lock: it cannot be closed from afar then. It moves within 3 s.
point v_a           4:8      u16   1
point i_a           4:9      u16   0.01
point i_leak_ma     4:5      u16   1
point temperature_c 4:7      u16   1
point power_w       4:11     u16   1
point power_factor  4:10     u16   0.01
point frequency_hz  4:4      u16   0.01
point relay         4:0      u16   1 mask=255 closed=240 open=15 lock=65280:256
switch open  6:13    0      settle=3000
switch close 6:13    65280  settle=3000

model Compact NSX BSCM
vendor Schneider
source productinfo.schneider-electric.com compactnsxmodbuscommguide D-SE-0033890, D-SE-0033894
read modbus phases=3 max=10 gap=0 pause=0
note Breaker status only: bit 1 tripped, bit 2 by a fault. Its command block (904 open, 905 close) is not built in, because no source names the register it begins at.
point relay         3:562    u16   1 mask=1 closed=1 open=0

# ---- Meters that only measure -----------------------------------------------------------------

model DDS238-2 ZN/S
vendor Hiking
source e-tinkers/Modbus-RTU:examples/DDS238/README.md@14b549d; public source
read modbus phases=1 max=30 gap=10 pause=0
note The kind without relay. Writing 0 to the energy register clears the meter: never done.
point energy_wh     3:10     u32be 10
point v_a           3:12     u16   0.1
point i_a           3:13     u16   0.01
point power_w       3:14     i16   1
point power_factor  3:16     u16   0.001
point frequency_hz  3:17     u16   0.01

model SDM120
vendor Eastron
source volkszaehler/mbmd:meters/rs485/sdm120.go@fb8f9c2
read modbus phases=1 max=50 gap=20 pause=0
note No breaker. Some meters of the SDM family refuse more than 50 registers in one request (openWB/core#2890), the manual says 80. openWB pauses 100 ms between requests.
point energy_wh     4:72     f32be 1000
point reactive_varh 4:76     f32be 1000
point v_a           4:0      f32be 1
point i_a           4:6      f32be 1
point power_w       4:12     f32be 1
point power_factor  4:30     f32be 1
point frequency_hz  4:70     f32be 1

model SDM230
vendor Eastron
source volkszaehler/mbmd:meters/rs485/sdm230.go@fb8f9c2
read modbus phases=1 max=50 gap=20 pause=0
note No breaker. Limits as for SDM120.
point energy_wh     4:72     f32be 1000
point reactive_varh 4:76     f32be 1000
point v_a           4:0      f32be 1
point i_a           4:6      f32be 1
point power_w       4:12     f32be 1
point power_factor  4:30     f32be 1
point frequency_hz  4:70     f32be 1

model SDM630
vendor Eastron
source volkszaehler/mbmd:meters/rs485/sdm.go@fb8f9c2
read modbus phases=3 max=50 gap=20 pause=0
note No breaker. Limits as for SDM120.
point energy_wh     4:72     f32be 1000
point reactive_varh 4:76     f32be 1000
point v_a           4:0      f32be 1
point v_b           4:2      f32be 1
point v_c           4:4      f32be 1
point i_a           4:6      f32be 1
point i_b           4:8      f32be 1
point i_c           4:10     f32be 1
point power_w       4:52     f32be 1
point power_a_w     4:12     f32be 1
point power_b_w     4:14     f32be 1
point power_c_w     4:16     f32be 1
point power_factor  4:62     f32be 1
point frequency_hz  4:70     f32be 1

model SDM72DM-V2
vendor Eastron
source volkszaehler/mbmd:meters/rs485/sdm72v2.go@fb8f9c2
read modbus phases=3 max=50 gap=20 pause=500
note No breaker. Asked too quickly an SDM72D restarts; 500 ms between requests cure it (reaper7/SDM_Energy_Meter#50).
point energy_wh     4:72     f32be 1000
point reactive_varh 4:344    f32be 1000
point v_a           4:0      f32be 1
point v_b           4:2      f32be 1
point v_c           4:4      f32be 1
point i_a           4:6      f32be 1
point i_b           4:8      f32be 1
point i_c           4:10     f32be 1
point power_w       4:52     f32be 1
point power_a_w     4:12     f32be 1
point power_b_w     4:14     f32be 1
point power_c_w     4:16     f32be 1
point power_factor  4:62     f32be 1
point frequency_hz  4:70     f32be 1

model DDSU666
vendor Chint
source public source (Tasmota generic modbus JSON); OpenEMS io.openems.edge.meter.chint.ddsu666 (public source)
read modbus phases=1 max=60 gap=20 pause=0
note No breaker. Power is in kW. Answers function 4 like 3.
point energy_wh     3:16384  f32be 1000
point v_a           3:8192   f32be 1
point i_a           3:8194   f32be 1
point power_w       3:8196   f32be 1000
point power_factor  3:8202   f32be 1
point frequency_hz  3:8206   f32be 1

model DTSU666
vendor Chint
source volkszaehler/mbmd:meters/rs485/dtsu666.go@fb8f9c2
read modbus phases=3 max=50 gap=0 pause=0
note No breaker. Floats that hold tenths and thousandths. Behind transformers the values are those of their secondary side: multiplier = CT x PT.
point energy_wh     3:4126   f32be 1000
point v_a           3:8198   f32be 0.1
point v_b           3:8200   f32be 0.1
point v_c           3:8202   f32be 0.1
point i_a           3:8204   f32be 0.001
point i_b           3:8206   f32be 0.001
point i_c           3:8208   f32be 0.001
point power_w       3:8210   f32be 0.1
point power_a_w     3:8212   f32be 0.1
point power_b_w     3:8214   f32be 0.1
point power_c_w     3:8216   f32be 0.1
point power_factor  3:8234   f32be 0.001
point frequency_hz  3:8260   f32be 0.01

model DTSD1352
vendor Acrel
source public source (public GitHub Java Meter_AKR_DTSD1352); manualshive.com Acrel DTSD1352 p16; aggsoft.com acrel-adl3000
read modbus phases=3 max=60 gap=20 pause=0
note Also ADL3000. No breaker. Secondary values: multiplier = CT x PT. Sources disagree about the scale of power factor and frequency: check-model tells on the device.
point energy_wh     3:10     u32be 10
point reactive_varh 3:40     u32be 10
point v_a           3:97     u16   0.1
point v_b           3:98     u16   0.1
point v_c           3:99     u16   0.1
point i_a           3:100    u16   0.01
point i_b           3:101    u16   0.01
point i_c           3:102    u16   0.01
point power_w       3:106    i16   1
point power_a_w     3:103    i16   1
point power_b_w     3:104    i16   1
point power_c_w     3:105    i16   1
point power_factor  3:118    u16   0.001  # sources disagree: 0.001 or 0.01
point frequency_hz  3:119    u16   0.01  # sources disagree: 0.01 or 0.1

model ADW300
vendor Acrel
source evcc-io/evcc:templates/definition/meter/acrel-adw300.yaml@b29b49e
read modbus phases=3 max=50 gap=0 pause=0
note No breaker. Behind transformers: multiplier = CT x PT.
point energy_wh     3:62     i32be 10
point v_a           3:20     u16   0.1
point v_b           3:21     u16   0.1
point v_c           3:22     u16   0.1
point i_a           3:26     u16   0.01
point i_b           3:27     u16   0.01
point i_c           3:28     u16   0.01
point power_w       3:36     i32be 1
point power_a_w     3:30     i32be 1
point power_b_w     3:32     i32be 1
point power_c_w     3:34     i32be 1

model iEM3155
vendor Schneider
source volkszaehler/mbmd:meters/rs485/iem3000.go@fb8f9c2
read modbus phases=3 max=60 gap=0 pause=0
note iEM3000 series and the 3000 block of PM5xxx. No breaker. Manuals count registers from 1, so the voltage of 3028 is 3027 here.
point energy_wh     3:3203   i64be 1
point reactive_varh 3:3219   i64be 1
point v_a           3:3027   f32be 1
point v_b           3:3029   f32be 1
point v_c           3:3031   f32be 1
point i_a           3:2999   f32be 1
point i_b           3:3001   f32be 1
point i_c           3:3003   f32be 1
point power_w       3:3059   f32be 1000
point power_a_w     3:3053   f32be 1000
point power_b_w     3:3055   f32be 1000
point power_c_w     3:3057   f32be 1000
point frequency_hz  3:3109   f32be 1

model B23
vendor ABB
source volkszaehler/mbmd:meters/rs485/abb.go@fb8f9c2
read modbus phases=3 max=50 gap=0 pause=0
note Also A43 and B24. No breaker. A value that is not there has all bits set, a signed one all but the first.
point energy_wh     3:20480  u64be 10
point v_a           3:23296  u32be 0.1
point v_b           3:23298  u32be 0.1
point v_c           3:23300  u32be 0.1
point i_a           3:23308  u32be 0.01
point i_b           3:23310  u32be 0.01
point i_c           3:23312  u32be 0.01
point power_w       3:23316  i32be 0.01
point power_a_w     3:23318  i32be 0.01
point power_b_w     3:23320  i32be 0.01
point power_c_w     3:23322  i32be 0.01
point power_factor  3:23354  i16   0.001
point frequency_hz  3:23340  u16   0.01

model EM24
vendor Carlo Gavazzi
source volkszaehler/mbmd:meters/rs485/carlogavazzi-em24.go@fb8f9c2
read modbus phases=3 max=10 gap=0 pause=0
note The RS-485 kind. No breaker. Low word first. Short requests because old versions take no long ones.
point energy_wh     4:66     i32sw 100
point v_a           4:0      i32sw 0.1
point v_b           4:2      i32sw 0.1
point v_c           4:4      i32sw 0.1
point i_a           4:12     i32sw 0.001
point i_b           4:14     i32sw 0.001
point i_c           4:16     i32sw 0.001
point power_w       4:40     i32sw 0.1
point power_a_w     4:18     i32sw 0.1
point power_b_w     4:20     i32sw 0.1
point power_c_w     4:22     i32sw 0.1
point power_factor  4:53     i16   0.001
point frequency_hz  4:55     i16   0.1

model EM340
vendor Carlo Gavazzi
source volkszaehler/mbmd:meters/rs485/carlogavazzi-ex3x0.go@fb8f9c2
read modbus phases=3 max=50 gap=0 pause=0
note Also EM330 and ET340. No breaker. Low word first. One register beside the map holds text in half of it (influxdata/telegraf#14748): nothing between points is read along.
point energy_wh     4:52     i32sw 100
point v_a           4:0      i32sw 0.1
point v_b           4:2      i32sw 0.1
point v_c           4:4      i32sw 0.1
point i_a           4:12     i32sw 0.001
point i_b           4:14     i32sw 0.001
point i_c           4:16     i32sw 0.001
point power_w       4:40     i32sw 0.1
point power_a_w     4:18     i32sw 0.1
point power_b_w     4:20     i32sw 0.1
point power_c_w     4:22     i32sw 0.1
point power_factor  4:49     i16   0.001
point frequency_hz  4:51     i16   0.1

model B23 312
vendor Janitza
source volkszaehler/mbmd:meters/rs485/janitza.go@fb8f9c2
read modbus phases=3 max=50 gap=6 pause=0
note Also B24 312. No breaker. Energy is in Wh.
point energy_wh     3:19068  f32be 1
point v_a           3:19000  f32be 1
point v_b           3:19002  f32be 1
point v_c           3:19004  f32be 1
point i_a           3:19012  f32be 1
point i_b           3:19014  f32be 1
point i_c           3:19016  f32be 1
point power_w       3:19026  f32be 1
point power_a_w     3:19020  f32be 1
point power_b_w     3:19022  f32be 1
point power_c_w     3:19024  f32be 1
point frequency_hz  3:19050  f32be 1

model PRO380
vendor Inepro
source volkszaehler/mbmd:meters/rs485/inepro.go@fb8f9c2
read modbus phases=3 max=60 gap=36 pause=0
note No breaker. Power is in kW.
point energy_wh     3:24588  f32be 1000
point reactive_varh 3:24624  f32be 1000
point v_a           3:20482  f32be 1
point v_b           3:20484  f32be 1
point v_c           3:20486  f32be 1
point i_a           3:20492  f32be 1
point i_b           3:20494  f32be 1
point i_c           3:20496  f32be 1
point power_w       3:20498  f32be 1000
point power_a_w     3:20500  f32be 1000
point power_b_w     3:20502  f32be 1000
point power_c_w     3:20504  f32be 1000
point power_factor  3:20522  f32be 1
point frequency_hz  3:20488  f32be 1

model PZEM-016
vendor Peacefair
source esphome/esphome:esphome/components/pzemac/pzemac.cpp@33fdbbe; wirenboard/wb-mqtt-serial:templates/config-pzem-016.json@7f7a2d4
read modbus phases=1 max=20 gap=0 pause=0
note Also PZEM-004T v3. No breaker. Low word first. Sources disagree about the energy register by ten: compare with the display, check-model does.
point energy_wh     4:5      u32sw 1  # sources disagree: Wh after esphome, 0.1 Wh after the wb-mqtt-serial template
point v_a           4:0      u16   0.1
point i_a           4:1      u32sw 0.001
point power_w       4:3      u32sw 0.1
point power_factor  4:8      u16   0.01
point frequency_hz  4:7      u16   0.1

model DVH4013
vendor DZG
source volkszaehler/mbmd:meters/rs485/dzg.go@fb8f9c2
read modbus phases=3 max=50 gap=2 pause=0
note No breaker. power_w is what is drawn; what is fed back has a register of its own.
point energy_wh     3:16384  u32be 1
point v_a           3:4      u32be 0.01
point v_b           3:6      u32be 0.01
point v_c           3:8      u32be 0.01
point i_a           3:10     u32be 0.001
point i_b           3:12     u32be 0.001
point i_c           3:14     u32be 0.001
point power_w       3:0      u32be 0.1
point power_factor  3:16     u32be 0.001
point frequency_hz  3:18     u32be 0.001

model WE-504
vendor ORNO
source volkszaehler/mbmd:meters/rs485/orno1p504.go@fb8f9c2
read modbus phases=1 max=20 gap=2 pause=0
note No breaker.
point energy_wh     3:7      u32be 1
point reactive_varh 3:9      u32be 1
point v_a           3:0      u16   0.1
point i_a           3:1      u16   0.1
point power_w       3:3      u16   1
point power_factor  3:6      u16   0.001
point frequency_hz  3:2      u16   0.1

model WE-516
vendor ORNO
source volkszaehler/mbmd:meters/rs485/orno3p.go@fb8f9c2
read modbus phases=3 max=50 gap=0 pause=0
note Also WE-517. No breaker. Power is in kW.
point energy_wh     3:264    f32be 1000
point v_a           3:14     f32be 1
point v_b           3:16     f32be 1
point v_c           3:18     f32be 1
point i_a           3:22     f32be 1
point i_b           3:24     f32be 1
point i_c           3:26     f32be 1
point power_w       3:28     f32be 1000
point frequency_hz  3:20     f32be 1

model DDM18SD
vendor OEM
source volkszaehler/mbmd:meters/rs485/ddm18sd.go@fb8f9c2
read modbus phases=1 max=50 gap=0 pause=0
note No breaker.
point energy_wh     4:256    f32be 1000
point reactive_varh 4:1024   f32be 1000
point v_a           4:0      f32be 1
point i_a           4:8      f32be 1
point power_w       4:18     f32be 1
point power_factor  4:42     f32be 1
point frequency_hz  4:54     f32be 1

# ---- DL/T 645 --------------------------------------------------------------------------------
# Numbers are BCD; energies XXXXXX.XX kWh, power XX.XXXX kW. What a meter does not know it refuses
# once and is not asked again for a day.

model DLT645-2007 single-phase relay
vendor any
source DL/T 645-2007 and its addendum on switching; sulfurandcu/dlt645-tool@8a4a54a; peace0phmind/dlt645:const.go@1ec047a
read dlt645-2007 phases=1
note Prepaid meter or meter with a breaker, opened and closed by 1CH with a password. Bit 4 of status word 3 is the contact; the acknowledgement is no proof. The third wrong password locks the meter for a day.
note Each item takes 0.3 s at 2400 baud: where many meters share a line, copy the model under another name and leave points out.
clock 0400010C broadcast write
point energy_wh     00010000 bcd4  10
point v_a           02010100 bcd2  0.1
point i_a           02020100 sbcd3 0.001
point power_w       02030000 sbcd3 0.1
point power_factor  02060000 sbcd2 0.001
point frequency_hz  02800002 bcd2  0.01
point relay         04000503 bits2 1     mask=16 closed=0 open=16 keep=4096:4096
switch open         28       26          settle=5000 valid=300  # 1AH
switch permit_close 28       27          settle=5000 valid=300  # 1BH: a person presses the key
switch close        28       28          settle=5000 valid=300  # 1CH
switch keep         28       58          settle=2000 valid=300  # 3AH
switch release      28       59          settle=2000 valid=300  # 3BH
history hourly      05040101 time=05040001 depth=254  # depth as commonly known from the standard
history daily       05060101 time=05060001 depth=62   # depth as commonly known from the standard
history settlement  00010001 depth=12

model DLT645-2007 three-phase relay
vendor any
source DL/T 645-2007 and its addendum on switching; sulfurandcu/dlt645-tool@8a4a54a; peace0phmind/dlt645:const.go@1ec047a
read dlt645-2007 phases=3
note As the single-phase one. Blocks (FF) are asked for first; a meter that refuses them is asked for single items.
note Behind transformers the values are those of their secondary side: multiplier = CT x PT.
clock 0400010C broadcast write
point energy_wh     00010000 bcd4  10
point reactive_varh 00030000 sbcd4 10
point v_a           02010100 bcd2  0.1   block=0201FF00+0
point v_b           02010200 bcd2  0.1   block=0201FF00+2
point v_c           02010300 bcd2  0.1   block=0201FF00+4
point i_a           02020100 sbcd3 0.001 block=0202FF00+0
point i_b           02020200 sbcd3 0.001 block=0202FF00+3
point i_c           02020300 sbcd3 0.001 block=0202FF00+6
point i_n           02800001 sbcd3 0.001
point power_w       02030000 sbcd3 0.1   block=0203FF00+0
point power_a_w     02030100 sbcd3 0.1   block=0203FF00+3
point power_b_w     02030200 sbcd3 0.1   block=0203FF00+6
point power_c_w     02030300 sbcd3 0.1   block=0203FF00+9
point power_factor  02060000 sbcd2 0.001
point frequency_hz  02800002 bcd2  0.01
point temperature_c 02800007 sbcd2 0.1
point relay         04000503 bits2 1     mask=16 closed=0 open=16 keep=4096:4096
switch open         28       26          settle=5000 valid=300  # 1AH
switch permit_close 28       27          settle=5000 valid=300  # 1BH: a person presses the key
switch close        28       28          settle=5000 valid=300  # 1CH
switch keep         28       58          settle=2000 valid=300  # 3AH
switch release      28       59          settle=2000 valid=300  # 3BH
history hourly      05040101 time=05040001 depth=254  # depth as commonly known from the standard
history daily       05060101 time=05060001 depth=62   # depth as commonly known from the standard
history settlement  00010001 depth=12

model DLT645-2007 single-phase
vendor any
source DL/T 645-2007; sulfurandcu/dlt645-tool@8a4a54a; peace0phmind/dlt645:const.go@1ec047a
read dlt645-2007 phases=1
note No breaker.
clock 0400010C broadcast write
point energy_wh     00010000 bcd4  10
point v_a           02010100 bcd2  0.1
point i_a           02020100 sbcd3 0.001
point power_w       02030000 sbcd3 0.1
point power_factor  02060000 sbcd2 0.001
point frequency_hz  02800002 bcd2  0.01
history hourly      05040101 time=05040001 depth=254  # depth as commonly known from the standard
history daily       05060101 time=05060001 depth=62   # depth as commonly known from the standard
history settlement  00010001 depth=12

model DLT645-2007 three-phase
vendor any
source DL/T 645-2007; sulfurandcu/dlt645-tool@8a4a54a; peace0phmind/dlt645:const.go@1ec047a
read dlt645-2007 phases=3
note No breaker. Behind transformers: multiplier = CT x PT.
clock 0400010C broadcast write
point energy_wh     00010000 bcd4  10
point reactive_varh 00030000 sbcd4 10
point v_a           02010100 bcd2  0.1   block=0201FF00+0
point v_b           02010200 bcd2  0.1   block=0201FF00+2
point v_c           02010300 bcd2  0.1   block=0201FF00+4
point i_a           02020100 sbcd3 0.001 block=0202FF00+0
point i_b           02020200 sbcd3 0.001 block=0202FF00+3
point i_c           02020300 sbcd3 0.001 block=0202FF00+6
point i_n           02800001 sbcd3 0.001
point power_w       02030000 sbcd3 0.1   block=0203FF00+0
point power_a_w     02030100 sbcd3 0.1   block=0203FF00+3
point power_b_w     02030200 sbcd3 0.1   block=0203FF00+6
point power_c_w     02030300 sbcd3 0.1   block=0203FF00+9
point power_factor  02060000 sbcd2 0.001
point frequency_hz  02800002 bcd2  0.01
point temperature_c 02800007 sbcd2 0.1
history hourly      05040101 time=05040001 depth=254  # depth as commonly known from the standard
history daily       05060101 time=05060001 depth=62   # depth as commonly known from the standard
history settlement  00010001 depth=12

model DLT645-1997 single-phase
vendor any
source DL/T 645-1997; bobyuxinyang/dlt645_1997@d9cc1be; peace0phmind/dlt645:const.go@1ec047a
read dlt645-1997 phases=1
note No standard switching: where the maker names a private identifier, copy the model and add it. Voltage in whole volts. Some answer with the wildcard address.
clock C010 broadcast
point energy_wh     9010 bcd4  10
point v_a           B611 bcd2  1
point i_a           B621 bcd2  0.01
point power_w       B630 sbcd3 0.1
point power_factor  B650 sbcd2 0.001
history settlement  9410 depth=2  # 9810: the month before last

model DLT645-1997 three-phase
vendor any
source DL/T 645-1997; bobyuxinyang/dlt645_1997@d9cc1be; peace0phmind/dlt645:const.go@1ec047a
read dlt645-1997 phases=3
note As the single-phase one: no standard switching. Behind transformers: multiplier = CT x PT.
clock C010 broadcast
point energy_wh     9010 bcd4  10
point reactive_varh 9110 bcd4  10
point v_a           B611 bcd2  1
point v_b           B612 bcd2  1
point v_c           B613 bcd2  1
point i_a           B621 bcd2  0.01
point i_b           B622 bcd2  0.01
point i_c           B623 bcd2  0.01
point power_w       B630 sbcd3 0.1
point power_a_w     B631 sbcd3 0.1
point power_b_w     B632 sbcd3 0.1
point power_c_w     B633 sbcd3 0.1
point power_factor  B650 sbcd2 0.001
history settlement  9410 depth=2  # 9810: the month before last
$catalogue$
$$;
COMMENT ON FUNCTION submeter.built_in_models() IS 'The built-in meter models, in the form add_meter_models() reads.';
