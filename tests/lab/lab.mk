# Tests on a cluster of network namespaces. They need root and say "skipped" without.
test_scripts += tests/lab/test_lab_broadcast.py
plain_scripts += \
	tests/lab/test_lab_faults.py \
	tests/lab/test_lab_mpi.py \
	tests/lab/test_lab_racks.py \
	tests/lab/test_lab_self.py \
	tests/lab/test_lab_slurm.py \
	tests/lab/test_lab_slurm_memory.py
dist_noinst_DATA += \
	tests/lab/cast.py \
	tests/lab/harm.py \
	tests/lab/lab.py \
	tests/lab/measure.py \
	tests/lab/names.py \
	tests/lab/slurm.py \
	tests/lab/tap.py \
	tests/lab/wrong.c
