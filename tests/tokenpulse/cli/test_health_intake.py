"""`tokenpulse health intake` asks the intake of this host."""

from tests.support.command import run
from tests.support.intake_process import IntakeProcess
from tests.support.servers import Broker


def test_an_intake_is_healthy_while_it_runs(broker: Broker) -> None:
    intake = IntakeProcess(broker.new_kafka())
    done = run("health", "intake", settings=intake.settings)
    assert done.exit_code == 1
    assert f"the intake does not answer at port {intake.port}" in done.stderr
    with intake:
        done = run("health", "intake", settings=intake.settings)
        assert (done.exit_code, done.stdout) == (0, "ok\n")
