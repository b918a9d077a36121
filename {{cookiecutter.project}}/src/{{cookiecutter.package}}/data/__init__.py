"""Where examples come from (sources) and how they lie on disk once prepared."""
