"""python -m argosy.node_agent"""

from argosy.mesh.service import run
from argosy.node_agent.settings import NodeAgentSettings
from argosy.node_agent.shell.service import NodeAgentService

if __name__ == "__main__":
    run(NodeAgentSettings, NodeAgentService)
