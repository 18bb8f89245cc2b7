/*
 * options.c - what the command line says
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base.h"
#include "log.h"
#include "options.h"

#define OPTIONS_EXIT_USAGE 2

static const char options_help[] =
	"submeter-poller carries bytes between meters and the database.\n"
	"\n"
	"  submeter-poller --dsn CONNINFO [option...]     run\n"
	"\n"
	"At the cabinet, without a database (--address HOST:PORT, or a line such as\n"
	"/dev/ttyUSB0:9600:8N1; --wire modbus-tcp, rtu or dlt645; --unit UNIT or meter address):\n"
	"  read         --unit U --model M                values of a meter\n"
	"               --unit U --register A [--function 3] [--count 1] [--libmodbus]\n"
	"               --unit U --di DI                  one data item, 8 digits (1997: 4)\n"
	"  scan         [--from 1] [--to 247] [--thorough]  who is on the bus, and what it may be\n"
	"  check-model  --unit U --model M                try each point of a model\n"
	"  switch       open|close|permit-close|keep|release --unit U --model M\n"
	"               [--password-file F] [--level 2] [--operator 00000000]\n"
	"  watch        --unit U --model M [--every 1] [--count N]  ask, and show the frames\n"
	"               --listen HOST:PORT                stand between, and show the frames\n"
	"               without either, listen on a serial line\n"
	"  models       [NAME] [--text]                   the models it knows\n"
	"  decode       PROTOCOL [HEX...]                 explain frames, one JSON object each; without\n"
	"               HEX from the standard input. modbus-tcp, modbus-rtu-request,\n"
	"               modbus-rtu-response, dlt645 or q376\n"
	"  All: --models FILE (own models as text), --timeout-ms N, --frames (show the frames).\n"
	"  --dial-in: the device connects to --address, such as 0.0.0.0:5020; what it says of itself is\n"
	"  shown, in the form gateway.registration wants. read, scan, check-model and switch know it.\n"
	"  Status: 0 good, 1 not good or nobody there, 2 wrong command line.\n"
	"\n"
	"Options of the daemon:\n"
	"  --dsn CONNINFO      libpq connection string; service=NAME or a passfile keep the password\n"
	"                      off the command line\n"
	"  --spool DIR         where readings wait until the database has them\n"
	"                      (default /var/lib/submeter-poller)\n"
	"  --spool-max-mb N    most the spool may hold (default 1024)\n"
	"  --retry-rejected    put readings the database once refused back into the queue\n"
	"  --name NAME         name this poller claims commands under (default: the host's)\n"
	"  --tls-ca FILE       certificates believed, of gateways and devices with TLS (default: the system's)\n"
	"  --tls-cert FILE     our own certificate, needed for devices that dial in with TLS\n"
	"  --tls-key FILE      its key, unless it is in the same file\n"
	"  --tls-require-client\n"
	"                      devices that dial in with TLS must show a certificate by --tls-ca\n"
	"  --once              read every meter once, deliver, and exit: 0 when all answered and the\n"
	"                      spool is empty, else 1\n"
	"  --check             load the plan, print what is in it and what is wrong with it, and exit:\n"
	"                      0 without problems, 1 with problems, 3 when it could not be loaded\n"
	"  --log-level LEVEL   error, warning, info (default) or debug\n"
	"  --allow-root        run as root nevertheless\n"
	"  -h, --help          this text\n"
	"  --version           version\n"
	"\n"
	"SIGHUP reloads the plan; SIGTERM finishes what is on the wire, keeps all readings and exits.\n";

enum
{
	OPTION_DSN = 256,
	OPTION_SPOOL,
	OPTION_SPOOL_MAX,
	OPTION_RETRY_REJECTED,
	OPTION_NAME,
	OPTION_TLS_CA,
	OPTION_TLS_CERT,
	OPTION_TLS_KEY,
	OPTION_TLS_REQUIRE_CLIENT,
	OPTION_ONCE,
	OPTION_CHECK,
	OPTION_LOG_LEVEL,
	OPTION_ALLOW_ROOT,
	OPTION_VERSION
};

static const struct option options_known[] = {
	{"dsn", required_argument, NULL, OPTION_DSN},
	{"spool", required_argument, NULL, OPTION_SPOOL},
	{"spool-max-mb", required_argument, NULL, OPTION_SPOOL_MAX},
	{"retry-rejected", no_argument, NULL, OPTION_RETRY_REJECTED},
	{"name", required_argument, NULL, OPTION_NAME},
	{"tls-ca", required_argument, NULL, OPTION_TLS_CA},
	{"tls-cert", required_argument, NULL, OPTION_TLS_CERT},
	{"tls-key", required_argument, NULL, OPTION_TLS_KEY},
	{"tls-require-client", no_argument, NULL, OPTION_TLS_REQUIRE_CLIENT},
	{"once", no_argument, NULL, OPTION_ONCE},
	{"check", no_argument, NULL, OPTION_CHECK},
	{"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
	{"allow-root", no_argument, NULL, OPTION_ALLOW_ROOT},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0}};

static void
options_set_defaults(SmOptions *options)
{
	memset(options, 0, sizeof(*options));
	options->spool = "/var/lib/submeter-poller";
	options->spool_most_bytes = INT64_C(1024) << 20;
	if (gethostname(options->host, sizeof(options->host) - 1) != 0 || options->host[0] == '\0')
		snprintf(options->host, sizeof(options->host), "submeter-poller");
	options->name = options->host;
}

/* Takes one option; -1 to go on, else the exit status. */
static int
options_take(SmOptions *options, int option)
{
	int64_t number;

	switch (option)
	{
		case OPTION_DSN:
			options->dsn = optarg;
			break;
		case OPTION_SPOOL:
			options->spool = optarg;
			break;
		case OPTION_SPOOL_MAX:
			if (!base_parse_int(optarg, 1, INT64_C(1) << 30, &number))
			{
				fprintf(stderr, "submeter-poller: --spool-max-mb \"%s\" is not a number\n", optarg);
				return OPTIONS_EXIT_USAGE;
			}
			options->spool_most_bytes = number << 20;
			break;
		case OPTION_RETRY_REJECTED:
			options->retry_rejected = true;
			break;
		case OPTION_NAME:
			options->name = optarg;
			break;
		case OPTION_TLS_CA:
			options->tls.ca = optarg;
			break;
		case OPTION_TLS_CERT:
			options->tls.cert = optarg;
			break;
		case OPTION_TLS_KEY:
			options->tls.key = optarg;
			break;
		case OPTION_TLS_REQUIRE_CLIENT:
			options->tls.require_client = true;
			break;
		case OPTION_ONCE:
			options->once = true;
			break;
		case OPTION_CHECK:
			options->check = true;
			break;
		case OPTION_LOG_LEVEL:
			if (log_set_level(optarg))
				break;
			fprintf(stderr, "submeter-poller: there is no log level \"%s\"\n", optarg);
			return OPTIONS_EXIT_USAGE;
		case OPTION_ALLOW_ROOT:
			options->allow_root = true;
			break;
		case OPTION_VERSION:
			puts("submeter-poller " SUBMETER_VERSION);
			return 0;
		case 'h':
			fputs(options_help, stdout);
			return 0;
		default:
			fputs("Try \"submeter-poller --help\".\n", stderr);
			return OPTIONS_EXIT_USAGE;
	}
	return -1;
}

/* Parses the command line; -1 to go on, else the exit status. Texts point into the arguments. */
int
options_parse(SmOptions *options, int count, char **arguments)
{
	int option;
	int status;

	options_set_defaults(options);
	while ((option = getopt_long(count, arguments, "h", options_known, NULL)) != -1)
	{
		status = options_take(options, option);
		if (status >= 0)
			return status;
	}
	if (optind < count)
		fprintf(stderr, "submeter-poller: \"%s\" is not understood\n", arguments[optind]);
	else if (options->dsn == NULL)
		fputs("submeter-poller: --dsn is missing\n", stderr);
	else if (options->name[0] == '\0')
		fputs("submeter-poller: --name is empty\n", stderr);
	else if (options->tls.require_client && (options->tls.ca == NULL || options->tls.cert == NULL))
		fputs("submeter-poller: --tls-require-client needs --tls-ca and --tls-cert\n", stderr);
	else if (options->tls.key != NULL && options->tls.cert == NULL)
		fputs("submeter-poller: --tls-key needs --tls-cert\n", stderr);
	else if (geteuid() == 0 && !options->allow_root)
		fputs("submeter-poller: not as root; use a user of its own, or --allow-root\n", stderr);
	else
		return -1;
	return OPTIONS_EXIT_USAGE;
}
