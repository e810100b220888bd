/* SPDX-License-Identifier: MIT */
/* comm.c -- processes on one machine's processors as ranks (comm_device.h). */
#include "tests/unit/comm_device.h"

int main(void)
{
    return comm_tests(cpu_ops) != 0;
}
