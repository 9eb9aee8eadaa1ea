#include "net/flow.h"

#include <linux/sockios.h>
#include <linux/tcp.h> /* libc's netinet/tcp.h has an older struct tcp_info, and cannot be had beside this */
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

struct tc_flow tc_flow_of(int fd)
{
    struct tc_flow flow = {0};
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    int bytes = 0;
    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return flow;
    if (ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0)
        flow.backlog = (size_t)bytes;
    flow.arrived = info.tcpi_bytes_acked;
    flow.busy = info.tcpi_busy_time;
    flow.waits = info.tcpi_unacked > 0 ? info.tcpi_last_ack_recv : 0;
    return flow;
}
