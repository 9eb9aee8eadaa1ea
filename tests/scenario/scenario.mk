# Real processes on loopback, numbered from basic to hostile: the lowest that fails is the cause.
test_scripts += \
	tests/scenario/01_one_host.py \
	tests/scenario/02_many_hosts.py \
	tests/scenario/03_npy.py \
	tests/scenario/04_refusals.py \
	tests/scenario/05_keys.py \
	tests/scenario/06_deaths.py \
	tests/scenario/08_signals.py \
	tests/scenario/09_again.py \
	tests/scenario/10_workers.py \
	tests/scenario/11_local.py \
	tests/scenario/12_trouble.py \
	tests/scenario/13_join.py \
	tests/scenario/14_launch.py \
	tests/scenario/15_corruption.py \
	tests/scenario/16_moments.py \
	tests/scenario/17_hosts.py \
	tests/scenario/19_limits.py \
	tests/scenario/18_logins.py \
	tests/scenario/19_topology.py
plain_scripts += tests/scenario/07_big.py tests/scenario/mpi.py
dist_noinst_DATA += tests/scenario/agents.py tests/scenario/hook_site.py tests/scenario/memory_cgroup.py
test_scripts += tests/scenario/20_hooks.py
