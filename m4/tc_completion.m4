# TC_COMPLETION - where bash looks for completions (--with-bashcompdir).
AC_DEFUN([TC_COMPLETION], [
  AC_ARG_WITH([bashcompdir],
    [AS_HELP_STRING([--with-bashcompdir=DIR], [bash completions (DATADIR/bash-completion/completions)])],
    [bashcompdir=$withval], [bashcompdir='${datadir}/bash-completion/completions'])
  AC_SUBST([bashcompdir])
])
