/*
 * tls.h - links wrapped in TLS
 *
 * The certificates belong to the program, not to a link: tls_setup() reads them once.
 */
#ifndef TLS_H
#define TLS_H

#include "link.h"

typedef struct SmTlsFiles
{
	const char *ca;      /* whom we believe; NULL: the system's authorities */
	const char *cert;    /* who we are; NULL: nobody, then TLS gateways cannot dial in */
	const char *key;     /* NULL: in the file of cert */
	bool require_client; /* devices that dial in must show a certificate */
} SmTlsFiles;

typedef enum SmTlsState
{
	TLS_WAITING,
	TLS_DONE,
	TLS_FAILED
} SmTlsState;

extern bool tls_setup(const SmTlsFiles *files, char *why, size_t size);
extern void tls_teardown(void);
extern const char *tls_begin(SmLink *link, const char *peer_name);
extern SmTlsState tls_step(SmLink *link, const char **why);
extern void tls_end(SmLink *link);
extern bool tls_has_more(const SmLink *link);
extern ssize_t tls_send(SmLink *link, const uint8_t *bytes, size_t length, const char **why);
extern ssize_t tls_receive(SmLink *link, uint8_t *bytes, size_t room, const char **why);

#endif
