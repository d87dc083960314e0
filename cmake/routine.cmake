# The routine of reclaim: freestanding x86-64 code as an array of bytes. Only that CPU has one.
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$" OR NOT CMAKE_SIZEOF_VOID_P EQUAL 8)
	return()
endif()
set(routine_dir ${PROJECT_SOURCE_DIR}/src/act/routine)
set(routine_out ${PROJECT_BINARY_DIR}/routine)
file(GLOB routine_headers CONFIGURE_DEPENDS ${routine_dir}/*.h)
file(MAKE_DIRECTORY ${routine_out})
set(routine_flags -O2 -g0 -Wall -Wextra -Werror -ffreestanding -fPIC -fno-stack-protector -mno-red-zone
	-mgeneral-regs-only -fcf-protection=none -fno-asynchronous-unwind-tables -fno-unwind-tables
	-fno-jump-tables -fno-builtin -fno-sanitize=all -fno-lto)
if(CMAKE_C_COMPILER_ID STREQUAL GNU)
	# no memset from a loop
	list(APPEND routine_flags -fno-tree-loop-distribute-patterns -fno-reorder-blocks-and-partition)
endif()
add_custom_command(OUTPUT ${routine_out}/routine_code.inc
	COMMAND ${CMAKE_C_COMPILER} ${routine_flags} -c ${routine_dir}/rt.c -o ${routine_out}/rt.o
	COMMAND ${CMAKE_LINKER} -nostdlib --build-id=none -z noexecstack -T ${routine_dir}/rt.ld -o ${routine_out}/rt.elf
		${routine_out}/rt.o
	COMMAND ${CMAKE_OBJCOPY} -O binary -j .text ${routine_out}/rt.elf ${routine_out}/rt.bin
	COMMAND ${CMAKE_COMMAND} -DIN=${routine_out}/rt.bin -DOUT=${routine_out}/routine_code.inc
		-P ${PROJECT_SOURCE_DIR}/cmake/embed.cmake
	DEPENDS ${routine_dir}/rt.c ${routine_headers} ${routine_dir}/rt.ld
		${PROJECT_SOURCE_DIR}/cmake/embed.cmake
	VERBATIM)
add_custom_target(routine DEPENDS ${routine_out}/routine_code.inc)
add_dependencies(asc_core routine)
target_include_directories(asc_core PRIVATE ${routine_out})
set_property(SOURCE ${PROJECT_SOURCE_DIR}/src/act/reclaim.c APPEND PROPERTY OBJECT_DEPENDS ${routine_out}/routine_code.inc)
