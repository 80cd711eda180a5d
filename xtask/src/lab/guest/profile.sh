# Real tools come before busybox's applets of the same names.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/busybox
export HOME=/root TERM="${TERM:-linux}" LANG=C.UTF-8
