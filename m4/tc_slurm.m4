# TC_SLURM - --with-slurm: build the SPANK plug-in. By default where Slurm's headers (libslurm-dev) are.
AC_DEFUN([TC_SLURM], [
  AC_ARG_WITH([slurm], [AS_HELP_STRING([--with-slurm], [build the plug-in for Slurm's srun, sbatch and salloc (auto)])],
    [], [with_slurm=auto])
  have_slurm=no
  AS_IF([test "x$with_slurm" != xno], [AC_CHECK_HEADER([slurm/spank.h], [have_slurm=yes])])
  AS_IF([test "x$with_slurm$have_slurm" = xyesno], [AC_MSG_ERROR([no slurm/spank.h: install libslurm-dev])])
  AM_CONDITIONAL([HAVE_SLURM], [test "x$have_slurm" = xyes])
])
