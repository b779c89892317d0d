# Every package the project uses, found once. Debian 12 names are in quickstart.
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(Threads REQUIRED)
