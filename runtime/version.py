"""The version of Kerbside. It stands here alone: the wheel, `kerbside --version` and exported files read it."""

VERSION = "0.2.0"
