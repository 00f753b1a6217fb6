"""Legacy forms of Caffe's files brought to the current one."""


def upgrade_net(net, where):
    """Bring a NetParameter read from `where` to the current form, in place."""


def upgrade_solver(solver, where):
    """Bring a SolverParameter read from `where` to the current form, in place."""
