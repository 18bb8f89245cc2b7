/* tls.h - TLS around a connection */
#ifndef TLS_H
#define TLS_H

#include <sys/types.h>

#include "net.h"

extern bool tls_load(SmPort *port, char *files, SmError *error);
extern bool tls_begin(SmConnection *connection);
extern bool tls_shake(SmConnection *connection);
extern bool tls_wants_write(const SmConnection *connection);
extern ssize_t tls_read(SmConnection *connection, uint8_t *bytes, size_t length);
extern ssize_t tls_write(SmConnection *connection, const uint8_t *bytes, size_t length);
extern void tls_end(SmConnection *connection);
extern void tls_free(SmPort *port);

#endif
