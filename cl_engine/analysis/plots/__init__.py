"""Pictures: functions from runs to figures."""
