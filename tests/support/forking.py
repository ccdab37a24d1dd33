"""Runs each group of tests in a process of its own.

TensorFlow never gives back what XLA has compiled: in two processes the programs of all
tests came to 8 GiB. A process that is forked for a group shares what was imported, so
that it starts at once, and takes the group's programs with it when it ends.
"""

import multiprocessing
import os

import pytest
from tensorflow.python.eager import context


class GroupProcesses:
    """The plugin, in a worker of pytest-xdist; `pytest -n0` does without."""

    def __init__(self, config):
        self.config = config
        self.process = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item, nextitem):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _reports(self, item, nextitem):
        group, following = group_of(item), nextitem and group_of(nextitem)
        if not item.nodeid.endswith(f"@{group}"):
            # Its group would be in both workers, which would compile everything twice.
            return [
                failure(
                    item,
                    "pytest-xdist does not keep the tests of a group together: it has "
                    "not named them. Install the versions of pyproject.toml.",
                )
            ]
        if self.process is None:
            self.process = GroupProcess(self.config, item.session.items)
        reports = self.process.run(item, nextitem if following == group else None)
        if following != group or not self.process.is_alive:
            self.process.end()
            self.process = None
        return reports


class GroupProcess:
    """A process that runs the tests it is told to and sends back their reports."""

    def __init__(self, config, items):
        # TensorFlow's threads would not be there after the fork.
        if context.context()._initialized:
            raise RuntimeError(
                "TensorFlow has run something while tests were collected. Make "
                "tensors and layers within tests and fixtures."
            )
        self.config, self.items, self.is_alive = config, items, True
        self.connection, connection = multiprocessing.Pipe()
        self.pid = os.fork()
        if self.pid:
            connection.close()
        else:
            try:
                self.connection.close()
                self._serve(connection)
            finally:
                os._exit(0)

    def run(self, item, nextitem):
        """The reports of a test."""
        numbers = [self.items.index(each) for each in (item, nextitem) if each]
        try:
            self.connection.send(numbers)
            reports = self.connection.recv()
        except (EOFError, OSError):
            self.is_alive = False
            lost = "The process of this test ended before the test did."
            return [failure(item, lost)]
        read = self.config.hook.pytest_report_from_serializable
        return [read(config=self.config, data=report) for report in reports]

    def end(self):
        self.connection.close()
        os.waitpid(self.pid, 0)

    def _serve(self, connection):
        plugins = self.config.pluginmanager
        # Reports go through the connection, not from here to the controller.
        for plugin in plugins.get_plugins():
            if type(plugin).__name__ in ("GroupProcesses", "WorkerInteractor"):
                plugins.unregister(plugin)
        reports = Reports()
        plugins.register(reports)
        hook = self.config.hook
        while True:
            try:
                numbers = connection.recv()
            except EOFError:  # It was closed: there is no more to do.
                return
            item, *nextitem = (self.items[number] for number in numbers)
            hook.pytest_runtest_protocol(
                item=item, nextitem=nextitem[0] if nextitem else None
            )
            write = hook.pytest_report_to_serializable
            connection.send(
                [write(config=self.config, report=each) for each in reports.taken()]
            )


class Reports:
    """Gathers the reports of tests."""

    def __init__(self):
        self.reports = []

    def pytest_runtest_logreport(self, report):
        self.reports.append(report)

    def taken(self):
        reports, self.reports = self.reports, []
        return reports


def failure(item, text):
    """The report of a test that failed for a reason outside of it."""
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")


def group_of(item):
    """The group of a test, see `conftest.py`."""
    return item.get_closest_marker("xdist_group").args[0]
