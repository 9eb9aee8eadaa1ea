/* api.h - what local workers and their agent say to each other over the Unix socket DIR/.treecast/api.
 *
 * Newline-separated JSON objects, at most TC_API_LINE bytes each (an answer: TC_API_ANSWER); one request, one answer,
 * any number in turn, a wait holds only its own connection. Requests: {"op":"wait","name":N,"timeout":seconds or null,"fd":bool},
 * {"op":"status","name":N or absent,"fd":bool}, {"op":"ping"}, {"op":"lease","name":N,"ttl":seconds,"pid":P},
 * {"op":"source","session":hex}. Answers: {"ok":true,...} or {"ok":false,"reason":"notfound","text":"..."} with the names
 * of base/err.def. A wait ends with {"ok":true,"name":N,"path":"DIR/N"}; end of file from a client drops its wait. A
 * descriptor travels with the first byte of its line. doc/treecast-api.7 says all of it. */
#ifndef TC_API_API_H
#define TC_API_API_H

#define TC_API_LINE 65536u       /* bytes of a request with its newline */
#define TC_API_ANSWER 262144u    /* bytes of an answer with its newline: the longest description fits */
#define TC_API_STATE ".treecast" /* the agent's own directory in DIR */
#define TC_API_NAME "api"        /* in it */

#endif
