"""What sums of routes say: pure functions of counts, each with its formula, in nats, with intervals over units.

``units`` draws and leaves out clusters of sequences; ``load``, ``coactivation`` and ``paths`` describe routers;
``divergence``, ``information``, ``enrichment`` and ``specialty`` compare classes; ``agreement``, ``matching`` and
``stages`` compare models.
"""
