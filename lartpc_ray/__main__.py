"""`python -m lartpc_ray`: the commands there are."""

import sys

COMMANDS = {
    "tune": "search a study's space; the main job",
    "train": "train one network, data-parallel",
    "thresholds": "tune the thresholds of a trained run, with errors",
    "predict": "write the clusters that a trained run finds in new events",
    "report": "print the table of a run again",
    "data": "look into event files",
}


def main() -> int:
    """Print the commands."""
    print("lartpc_ray: find the best sparse network and thresholds for LArTPC images\n")
    for name, about in COMMANDS.items():
        print(f"  python -m lartpc_ray.{name:<11} {about}")
    print("\neach has --help with an example; start with: python -m lartpc_ray.tune clustering")
    return 0


if __name__ == "__main__":
    sys.exit(main())
