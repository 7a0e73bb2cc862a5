from foclip.cli import main

main()
