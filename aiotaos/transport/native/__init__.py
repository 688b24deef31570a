"""The native road: TDengine's own client library, by ctypes."""
