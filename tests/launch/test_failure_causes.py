"""Why a run failed, from logs as they were recorded (flwr 1.42, paths cut)."""

from __future__ import annotations

import pytest

from symphony_fl.launch.failure_causes import cause, said

NO_ROOM = """\
\x1b[92mINFO \x1b[0m:      greeting 3 node(s)
\x1b[91mERROR \x1b[0m:     An exception occured!! ActorPool is empty. Stopping Simulation. Check `num_cpus` ...
\x1b[91mERROR \x1b[0m:     Traceback (most recent call last):
  File "flwr/server/superlink/fleet/vce/vce_api.py", line 217, in run_api
    backend.build(app_fn)
  File "flwr/simulation/ray_transport/ray_actor.py", line 430, in __init__
    self.actors_capacity = pool_size_from_resources(client_resources)
                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
ValueError: ActorPool is empty. Stopping Simulation. Check `num_cpus` and/or `num_gpus` passed to the engine

\x1b[93mWARNING \x1b[0m:   Stopping Simulation Runtime.
\x1b[91mERROR \x1b[0m:     An exception occurred !! Simulation Runtime crashed.
\x1b[91mERROR \x1b[0m:     Simulation raised an exception
Traceback (most recent call last):
  File "flwr/server/superlink/fleet/vce/vce_api.py", line 217, in run_api
    backend.build(app_fn)
  File "flwr/simulation/ray_transport/ray_actor.py", line 136, in pool_size_from_resources
    raise ValueError(
ValueError: ActorPool is empty. Stopping Simulation. Check `num_cpus` and/or `num_gpus` passed to the engine

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "flwr/simulation/run_simulation.py", line 319, in _main_loop
    vce.start_vce(
  File "flwr/server/superlink/fleet/vce/vce_api.py", line 267, in run_api
    raise RuntimeError("Simulation Runtime crashed.") from ex
RuntimeError: Simulation Runtime crashed.

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "flwr/simulation/app.py", line 337, in run_simulation_process
    simulation_result = _run_simulation(
                        ^^^^^^^^^^^^^^^^
  File "flwr/simulation/run_simulation.py", line 347, in _main_loop
    raise RuntimeError("An error was encountered. Ending simulation.") from ex
RuntimeError: An error was encountered. Ending simulation.
\x1b[91mERROR \x1b[0m:     Exit Code: 700

An unhandled exception occurred when running the simulation.

For more information, visit: <https://flower.ai/docs/framework/1.42/en/ref-exit-codes/700.html>
"""
# An agent fails in a round, which stops nothing, then the server does.
LATER = """\
\x1b[91mERROR \x1b[0m:     An exception was raised when processing a message by RayBackend
\x1b[91mERROR \x1b[0m:     \x1b[36mray::ClientAppActor.run()\x1b[39m (pid=25048, ip=127.0.0.1)
  File "clients/client_app.py", line 72, in _answer_here
    from clients.service.service import Service  # loads torch
  File "clients/agents/agent.py", line 34
    <<<<<<< HEAD
    ^^
SyntaxError: invalid syntax

The above exception was the direct cause of the following exception:

\x1b[36mray::ClientAppActor.run()\x1b[39m (pid=25048, ip=127.0.0.1)
  File "flwr/simulation/ray_transport/ray_actor.py", line 65, in run
    raise ClientAppException(str(ex)) from ex
flwr.clientapp.client_app.ClientAppException:
Exception ClientAppException occurred. Message: invalid syntax (agent.py, line 34)
\x1b[91mERROR \x1b[0m:     Traceback (most recent call last):
  File "flwr/server/superlink/fleet/vce/vce_api.py", line 132, in worker
    out_mssg, updated_context = backend.process_message(message, context)
ray.exceptions.RayTaskError(ClientAppException): \x1b[36mray::ClientAppActor.run()\x1b[39m (pid=25048)
\x1b[36m(ClientAppActor pid=17222)\x1b[0m Traceback (most recent call last):
\x1b[36m(ClientAppActor pid=17222)\x1b[0m ValueError: of an actor
\x1b[91mERROR \x1b[0m:     Simulation raised an exception
Traceback (most recent call last):
  File "flwr/simulation/run_simulation.py", line 369, in _main_loop
    raise thread_ex.with_traceback(thread_ex.__traceback__)
  File "strategies/roster.py", line 109, in gather
    raise RosterError(self._complaint(timeout))
strategies.roster.RosterError: 0 of 6 agents introduced themselves within 180 s; missing: 0, 1, 2, 3, 4, 5
\x1b[91mERROR \x1b[0m:     Exit Code: 700
"""
REPLACED = """\
Traceback (most recent call last):
  File "symphony_fl/storage/folders.py", line 10, in read
    return path.read_text()
FileNotFoundError: [Errno 2] No such file or directory: 'recipe.json'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "symphony_fl/config/recipe.py", line 20, in load
    raise RecipeError("recipe: no such file")
symphony_fl.config.recipe.RecipeError: recipe: no such file
"""


@pytest.mark.parametrize(
    ("log", "said_first"),
    [
        (NO_ROOM, "ValueError: ActorPool is empty. Stopping Simulation."),
        (
            LATER,
            "strategies.roster.RosterError: 0 of 6 agents introduced themselves within 180 s; missing: 0,",
        ),
        (REPLACED, "symphony_fl.config.recipe.RecipeError: recipe: no such file"),
        ("INFO :   all well\nERROR :  StatusError: away\nthe end", "ERROR :  StatusError: away"),
        ("INFO :   all well", "no error in the log"),
        ("", "no error in the log"),
        ("Traceback (most recent call last):", "no error in the log"),
        ("Traceback (most recent call last):\n  File", "no error in the log"),
    ],
)
def test_the_cause_is_the_first_of_the_last_chain(log: str, said_first: str) -> None:
    found = cause(log)
    assert found.startswith(said_first)
    assert "\n" not in found and "\x1b" not in found


def test_a_cause_is_bounded() -> None:
    assert len(cause("Traceback (most recent call last):\n  File\nValueError: " + "x" * 100_000)) == 2000


def test_what_an_app_said_stands_at_the_end_of_what_ray_says() -> None:
    ray = (
        "<class 'RayTaskError'>:<'ray::run()\n  File\nException ClientAppException occurred. Message: no disk"
    )
    assert said(ray + "'>") == said(ray + "\n'>") == "no disk"
    assert said("MemoryError: too little") == "MemoryError: too little"
    assert said("") == ""
